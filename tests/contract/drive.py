"""Schemathesis against a running service: what another hand than ours makes of the description.

Started by tests/contract/run. The service has an org, a profile, a route, a booked call. Of the description the tool gets
a copy in which a connection can only be made to the fake provider, so that nothing is sent off this machine.
"""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import contract  # noqa: E402
import harness  # noqa: E402

# Left out: what speaks of one request alone and cannot know the state. A body that fits the schema may still be
# refused for what it says (a time in the past, a cursor of another list), and the path of a route named "explain"
# takes more methods than are described.
LEFT_OUT = "positive_data_acceptance,allow_header_conformance"


def main():
    tool, seed = os.environ["SCHEMATHESIS"], os.environ.get("TG_SEED") or "1"
    examples = str(20 * int(os.environ.get("TG_ROUNDS") or 1))
    with harness.Tollgate() as tg, tempfile.TemporaryDirectory(prefix="tollgate-contract-") as folder:
        org = tg.setup_org("acme", credits="100.00")
        tg.setup_profile(org, "main")
        tg.must("PUT", "/orgs/acme/routes/fast", {"match": {"alias": "fast"}, "targets": [{"profile": "main", "model": "m"}]})
        tg.chat("hello")
        document = contract.of(tg).document
        new = document["components"]["schemas"]["ProfileNew"]["properties"]
        new["provider"] = {"const": "openai_compatible"}
        new["base_url"] = {"const": tg.fake.base_url}
        path = os.path.join(folder, "openapi.json")
        with open(path, "w") as f:
            json.dump(document, f)
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        done = subprocess.run(
            [tool, "run", path, "--url", f"http://{tg.admin_host}:{tg.admin_port}",
             "--header", f"Authorization: Bearer {harness.ADMIN_TOKEN}", "--exclude-tag", "data",
             "--checks", "all", "--exclude-checks", LEFT_OUT, "--phases", "examples,coverage,fuzzing",
             "--max-examples", examples, "--seed", seed, "--generation-database", "none", "--continue-on-failure"],
            cwd=folder, env=env)
        assert tg.process.poll() is None, "the service ended"
        tg.verify()
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
