"""Postgres keeps tenants apart by itself (security.md 2.4): what the catalogue says of every table and function, and
what the service's role sees of another org whichever way it asks."""
import os
import re
import unittest

import harness

# No tenant's rows: asked before the org is known, of the platform's own catalogue, or of the house itself.
SHARED = {"migration", "change", "change_counter", "org_slug", "key_lookup", "model", "kek_canary", "price_book", "markup_rule",
          "account_code", "pair_allowlist", "tier", "journal", "ext_event", "kek_retired", "run", "node",
          "audit_note_key"}


class Rls(harness.Case):
    @classmethod
    def prepare(cls):
        cls.orgs = {}
        for slug in ("one", "two"):
            org = cls.orgs[slug] = cls.tg.setup_org(slug)
            cls.tg.setup_profile(org, "own", secret=f"fake-{slug}-key")
            org.admin("PUT", "/routes/fast", {"match": {"alias": "fast"}, "targets": [{"profile": "own", "model": "m"}]})
            assert cls.tg.chat("Hi", key=org.key).status == 200
        cls.tables = [tuple(row) for row in cls.tg.sql(
            "SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname LIKE 'tollgate%' AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1, 2")]
        cls.tenant = [row[0] for row in cls.tg.sql(
            "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON "
            "a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped WHERE n.nspname LIKE 'tollgate%' AND "
            "c.relkind IN ('r', 'p') ORDER BY 1") if row[0].split(".")[-1] not in SHARED]

    def as_app(self, org, statement):
        return self.tg.sql("SET ROLE tollgate_app; SET search_path = tollgate; BEGIN; "
                           f"SELECT set_config('app.org_id', '{org}', true); {statement}; COMMIT")[1:]

    def readable(self, org=""):
        """Tenant tables that the service's role may read at all (some of them column by column)."""
        return [row for row in self.tg.sql(
            "SELECT t, (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = "
            "t::regclass AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege('tollgate_app', t::regclass, a.attnum, "
            "'SELECT')) FROM unnest(ARRAY[" + ", ".join(f"'{t}'" for t in self.tenant) + "]) t") if row[1]]

    def test_every_table_of_tenants_is_forced_and_keyed_by_org(self):
        self.assertGreater(len(self.tenant), 15)
        for schema, name, kind in self.tables:
            self.assertNotEqual(kind, "m", f"{name}: row-level security does not reach a materialised view")
            if kind in "rp" and name not in SHARED:
                self.assertIn(name, {t.split(".")[-1] for t in self.tenant}, f"{schema}.{name} has no org_id and is not named as shared")
        for table in self.tenant:
            with self.subTest(table=table):
                self.assertEqual(self.tg.sql(f"SELECT relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner) FROM pg_class "
                                             f"WHERE oid = '{table}'::regclass"), [["t", "t", "tollgate_owner"]])
                policies = self.tg.sql(f"SELECT polpermissive, polroles::regrole[]::text, pg_get_expr(polqual, polrelid) FROM pg_policy "
                                       f"WHERE polrelid = '{table}'::regclass")
                mine = [p for p in policies if "tollgate_app" in p[1]]
                self.assertIn(["f", "{tollgate_app}"], [p[:2] for p in mine], "a restrictive policy, so that no later one widens it")
                for policy in mine:
                    self.assertIn("tg_org()", policy[2])
                for policy in policies:
                    self.assertIn(policy[1], ("{tollgate_app}", "{tollgate_owner}"))
                key = self.tg.sql(f"SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = "
                                  f"i.indkey[0] WHERE i.indrelid = '{table}'::regclass AND i.indisprimary")
                self.assertEqual(key, [["org_id"]])

    def test_a_shared_table_that_names_orgs_is_not_the_services_to_read(self):
        named = self.tg.sql("SELECT c.relname, has_any_column_privilege('tollgate_app', c.oid, 'SELECT') FROM pg_class c JOIN pg_namespace n "
                            "ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id' WHERE n.nspname "
                            "LIKE 'tollgate%' AND c.relkind = 'r' AND c.relname IN (" + ", ".join(f"'{t}'" for t in sorted(SHARED)) + ")")
        self.assertGreaterEqual({row[0] for row in named}, {"change", "org_slug", "key_lookup", "ext_event"})
        self.assertEqual({row[1] for row in named}, {"f"})

    def test_a_foreign_key_between_tenants_names_the_org(self):
        keys = self.tg.sql("SELECT conrelid::regclass, confrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint "
                           "WHERE contype = 'f' AND connamespace IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'tollgate%')")
        checked = 0
        for source, target, name, definition in keys:
            if source in self.tenant and target in self.tenant:
                checked += 1
                self.assertRegex(definition, r"FOREIGN KEY \(org_id.*REFERENCES \S+\(org_id", f"{source}: {name}")
        self.assertGreater(checked, 5)

    def test_views_ask_as_who_looks(self):
        for schema, name, kind in self.tables:
            if kind == "v":
                options = self.tg.sql(f"SELECT array_to_string(reloptions, ',') FROM pg_class WHERE oid = '{schema}.{name}'::regclass")
                self.assertRegex(options[0][0], "security_invoker=(true|on)", name)

    def test_functions_of_the_owner_are_pinned_and_granted_by_name(self):
        rows = self.tg.sql(
            "SELECT p.oid::regprocedure, p.prosecdef, COALESCE(array_to_string(p.proconfig, ';'), ''), pg_get_userbyid(p.proowner), "
            "has_function_privilege('public', p.oid, 'EXECUTE') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace LEFT JOIN "
            "pg_depend d ON d.objid = p.oid AND d.deptype = 'e' WHERE n.nspname LIKE 'tollgate%' AND d.objid IS NULL")
        self.assertGreater(len(rows), 60)
        for function, definer, config, owner, public in rows:
            with self.subTest(function=function):
                self.assertEqual((owner, public), ("tollgate_owner", "f"))
                if definer == "t":
                    self.assertRegex(config, r"search_path=tollgate, pg_temp(;|$)")

    def test_the_service_writes_no_table(self):
        got = self.tg.sql("SELECT table_schema || '.' || table_name, privilege_type FROM information_schema.role_table_grants WHERE "
                          "grantee IN ('tollgate_app', 'PUBLIC') AND table_schema LIKE 'tollgate%' AND privilege_type <> 'SELECT'")
        self.assertEqual(got, [])
        self.assertEqual(self.tg.sql("SELECT rolsuper, rolbypassrls, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname IN "
                                     "('tollgate_app', 'tollgate_owner')"), [["f", "f", "f", "f"]] * 2)
        # Nothing of the schema of wrapped data keys is the service's to look at.
        self.assertEqual(self.tg.sql("SELECT has_schema_privilege('tollgate_app', 'tollgate_vault', 'USAGE')"), [["f"]])

    def test_only_the_own_rows_whichever_way_they_are_asked_for(self):
        one, two = self.orgs["one"].id, self.orgs["two"].id
        filled = 0
        for table, columns in self.readable():
            with self.subTest(table=table):
                count = lambda org, what=f"SELECT count(*) FROM {table}": int(self.as_app(org, what)[0][0])
                own = int(self.tg.sql(f"SELECT count(*) FROM {table} WHERE org_id = '{one}'")[0][0])
                filled += own > 0
                self.assertEqual(count(one), own)
                self.assertEqual(count(one, f"SELECT count(*) FROM {table} WHERE org_id = '{two}'"), 0)
                self.assertEqual(count(one, f"SELECT count(*) FROM {table} WHERE org_id <> tg_org() OR true"), own)
                self.assertEqual((count(""), count("00000000-0000-0000-0000-000000000000")), (0, 0))
                exported = self.as_app(one, f"COPY (SELECT {columns} FROM {table}) TO STDOUT")
                self.assertEqual(sum(two in cell for line in exported for cell in line), 0)
                self.assertEqual(len(exported) >= own, True)
        self.assertGreaterEqual(filled, 8)

    def refused(self, org, statement, words):
        with self.assertRaises(AssertionError, msg=statement) as caught:
            self.as_app(org, statement)
        self.assertRegex(str(caught.exception), words)

    def test_writing_past_the_functions_is_refused(self):
        one, two = self.orgs["one"].id, self.orgs["two"].id
        for org in (one, two):
            for statement in (f"UPDATE org SET tier = 'x' WHERE org_id = '{two}' RETURNING *", f"DELETE FROM profile WHERE org_id = '{two}' RETURNING *",
                              f"INSERT INTO route VALUES ('{two}', 'fast', '{{}}', '[1]', '{{}}') ON CONFLICT (org_id, name) DO UPDATE SET policy = "
                              "EXCLUDED.policy RETURNING *", f"INSERT INTO agent VALUES ('{two}', 'x', NULL) ON CONFLICT DO NOTHING RETURNING *",
                              "COPY profile FROM STDIN", "TRUNCATE profile", "SELECT hash FROM api_key", "SELECT * FROM audit_head",
                              "SELECT * FROM key_lookup", "SELECT * FROM org_slug", "SELECT * FROM tollgate_vault.org_dek",
                              f"SELECT org_touch('{two}', 'x')", "CREATE TABLE tollgate.mine (x int)", "ALTER TABLE org DISABLE ROW LEVEL SECURITY",
                              "CREATE POLICY wide ON profile USING (true)"):
                self.refused(org, statement, "permission denied|must be owner")
        # Postgres' own owner functions see the org of the transaction and no other, whatever they are given.
        profile = self.tg.sql(f"SELECT id FROM tollgate.profile WHERE org_id = '{two}'")[0][0]
        self.refused(one, f"SELECT profile_revoke('{profile}', '{{}}', 'r')", "profile_not_found")
        self.refused(one, f"SELECT profile_rotate('{profile}', 2, 'http://127.0.0.1/', '\\x00', '****', '00000000', NULL, NULL, '{{}}', 'r')", "profile_not_found")
        self.refused(one, f"SELECT secret_put('{profile}', 'api_key', 2, decode(repeat('54470101000000ff', 25), 'hex'), '****', '00000000')",
                     "secret_changed")
        key = self.orgs["two"].key_id
        self.refused(one, f"SELECT key_revoke('{key}', '{{}}', 'r')", "not_found")
        self.assertEqual(self.as_app(one, f"SELECT secret_drop('{profile}')"), [["f"]])
        self.assertEqual(self.tg.sql(f"SELECT status FROM tollgate.profile WHERE id = '{profile}'"), [["active"]])
        self.assertEqual(self.tg.chat("Hi", key=self.orgs["two"].key).status, 200)

    def test_row_security_off_is_an_error_and_no_leak(self):
        self.refused(self.orgs["one"].id, "SET LOCAL row_security = off; SELECT * FROM profile", "row-level security")

    def test_after_a_transaction_nobody_is_anybody(self):
        got = self.tg.sql("SET ROLE tollgate_app; SET search_path = tollgate; "
                          f"BEGIN; SELECT set_config('app.org_id', '{self.orgs['one'].id}', true); COMMIT; "
                          "SELECT count(*) FROM profile; SELECT tg_org() IS NULL")
        self.assertEqual(got[1:], [["0"], ["t"]])

    def test_no_session_ever_keeps_an_org(self):
        """set_config(..., false) and SET app.org_id would outlive their transaction on a pooled connection."""
        for folder, _, files in os.walk(harness.ROOT):
            if any(part in folder for part in ("/build", "/.git", "/tests", "/node_modules")):
                continue
            for name in files:
                if name.endswith((".sql", ".c", ".h")):
                    with open(os.path.join(folder, name)) as f:
                        text = f.read()
                    self.assertIsNone(re.search(r"set_config\([^;]*,\s*false\s*\)|SET\s+(SESSION\s+)?app\.org_id", text), os.path.join(folder, name))


if __name__ == "__main__":
    unittest.main()
