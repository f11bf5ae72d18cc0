-- 0010_agents: named agents, with the model a call on their behalf gets when it names none.
--
-- An agent's chain is the route whose match names it and nothing else. A route may only name an agent that
-- is there, an agent that a route names cannot go: as a foreign key would say it, had the match a column.

ALTER TABLE agent ADD COLUMN description text CHECK (char_length(description) <= 1000),
	ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
	ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
	ADD CHECK (char_length(name) BETWEEN 1 AND 256),
	ADD CHECK (char_length(default_model) BETWEEN 1 AND 256);

-- Routes could name an agent before there was a way to make one.
INSERT INTO agent (org_id, name)
SELECT DISTINCT org_id, match->>'agent' FROM route WHERE match->>'agent' IS NOT NULL
ON CONFLICT DO NOTHING;

CREATE FUNCTION agent_json(a agent) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('name', a.name, 'default_model', a.default_model, 'description', a.description,
		'status', a.status,
		'route', (SELECT r.name FROM route r WHERE r.org_id = a.org_id
			AND jsonb_strip_nulls(r.match) = jsonb_build_object('agent', a.name) LIMIT 1),
		'created_at', tg_rfc3339(a.created_at), 'updated_at', tg_rfc3339(a.updated_at))
$$;
GRANT EXECUTE ON FUNCTION agent_json(agent) TO tollgate_app;

CREATE FUNCTION agent_put(p_name text, p_default_model text, p_description text, p_status text, p_actor jsonb,
	p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE a agent; o uuid := tg_org();
BEGIN
	PERFORM 1 FROM org WHERE org_id = o FOR UPDATE;
	IF p_name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' AND NOT EXISTS (SELECT 1 FROM agent WHERE org_id = o AND name = p_name) THEN
		PERFORM tg_raise('TG400', 'invalid_name', 'this is no name for an agent',
			'1 to 64 letters, digits, ".", "_" and "-", the first a letter or digit');
	END IF;
	IF NOT EXISTS (SELECT 1 FROM agent WHERE org_id = o AND name = p_name)
			AND (SELECT count(*) FROM agent WHERE org_id = o) >= 1000 THEN
		PERFORM tg_raise('TG409', 'too_many_agents', 'this org has 1000 agents, which is the most', 'delete one that is not used');
	END IF;
	INSERT INTO agent (org_id, name, default_model, description, status)
	VALUES (o, p_name, p_default_model, p_description, p_status)
	ON CONFLICT (org_id, name) DO UPDATE SET default_model = EXCLUDED.default_model,
		description = EXCLUDED.description, status = EXCLUDED.status, updated_at = now()
	RETURNING * INTO a;
	PERFORM org_touch(o, 'agent');
	PERFORM audit_append(o, p_actor, 'agent.put', p_name, 'ok', p_request_id);
	RETURN agent_json(a);
END $$;
GRANT EXECUTE ON FUNCTION agent_put(text, text, text, text, jsonb, text) TO tollgate_app;

CREATE FUNCTION agent_delete(p_name text, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE a agent; o uuid := tg_org(); used text; shown jsonb;
BEGIN
	PERFORM 1 FROM org WHERE org_id = o FOR UPDATE;
	SELECT name INTO used FROM route WHERE org_id = o AND match->>'agent' = p_name ORDER BY name LIMIT 1;
	IF FOUND THEN
		PERFORM tg_raise('TG409', 'agent_in_use', 'the route "' || used || '" names this agent', 'delete or change the route first');
	END IF;
	SELECT * INTO a FROM agent WHERE org_id = o AND name = p_name;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'agent_not_found', 'no such agent');
	END IF;
	shown := agent_json(a);
	DELETE FROM agent WHERE org_id = o AND name = p_name;
	PERFORM org_touch(o, 'agent');
	PERFORM audit_append(o, p_actor, 'agent.delete', p_name, 'ok', p_request_id);
	RETURN shown;
END $$;
GRANT EXECUTE ON FUNCTION agent_delete(text, jsonb, text) TO tollgate_app;

-- A trigger and not a line of route_put(): whoever writes a route, this holds. The org's row is the lock that
-- agent_delete() takes too.
CREATE FUNCTION route_agent_check() RETURNS trigger LANGUAGE plpgsql
SET search_path = tollgate, pg_temp AS $$
BEGIN
	IF NEW.match->>'agent' IS NULL THEN
		RETURN NEW;
	END IF;
	PERFORM 1 FROM org WHERE org_id = NEW.org_id FOR UPDATE;
	IF NOT EXISTS (SELECT 1 FROM agent WHERE org_id = NEW.org_id AND name = NEW.match->>'agent') THEN
		PERFORM tg_raise('TG400', 'agent_not_found', 'match names the agent "' || (NEW.match->>'agent')
			|| '", which this org does not have', 'make it first: PUT /admin/v1/orgs/{org}/agents/{name}');
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER agent_exists BEFORE INSERT OR UPDATE OF match ON route FOR EACH ROW EXECUTE FUNCTION route_agent_check();

-- What stands beside routing_snapshot() in the org's picture.
CREATE FUNCTION routing_snapshot_agents() RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('agents', coalesce(jsonb_agg(jsonb_build_object('name', a.name,
		'default_model', a.default_model, 'disabled', a.status = 'disabled') ORDER BY a.name), '[]'::jsonb))
	FROM agent a WHERE a.org_id = tg_org()
$$;
GRANT EXECUTE ON FUNCTION routing_snapshot_agents() TO tollgate_app;

-- down
-- The names of agents stay; what they were set to is forgotten.
DROP FUNCTION routing_snapshot_agents();
DROP TRIGGER agent_exists ON route;
DROP FUNCTION route_agent_check();
DROP FUNCTION agent_delete(text, jsonb, text);
DROP FUNCTION agent_put(text, text, text, text, jsonb, text);
DROP FUNCTION agent_json(agent);
ALTER TABLE agent DROP CONSTRAINT agent_name_check, DROP CONSTRAINT agent_default_model_check,
	DROP COLUMN description, DROP COLUMN status, DROP COLUMN updated_at;
