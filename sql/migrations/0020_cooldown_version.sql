-- 0020_cooldown_version: a failure of the key before does not cool the one that took its place.
--
-- A rotation clears the profile's cooldowns; a call that was sent with the old key may fail after that.

DROP FUNCTION cooldown_set(uuid, text, text, bigint);
CREATE FUNCTION cooldown_set(p_profile uuid, p_model text, p_class text, p_retry_after_s bigint,
	p_secret_version bigint) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := tg_org(); n int; wait_s bigint; u timestamptz;
BEGIN
	PERFORM 1 FROM profile WHERE org_id = o AND id = p_profile FOR SHARE; -- a rotation that runs is waited for
	IF NOT FOUND THEN
		RETURN NULL; -- gone meanwhile: nothing to cool
	END IF;
	PERFORM 1 FROM secret s WHERE s.org_id = o AND s.id = p_profile AND s.field = 'api_key'
		AND s.row_version <> p_secret_version;
	IF FOUND THEN
		RETURN NULL; -- what failed was another key
	END IF;
	INSERT INTO cooldown (org_id, profile_id, model, class, failures, until) VALUES (o, p_profile, p_model, p_class, 1, now())
	ON CONFLICT (org_id, profile_id, model) DO UPDATE SET class = EXCLUDED.class, failures = CASE
		WHEN cooldown.until > now() THEN cooldown.failures -- calls that were in flight when it began do not add up
		WHEN cooldown.until < now() - interval '1 hour' THEN 1 ELSE least(cooldown.failures + 1, 10) END
	RETURNING failures INTO n;
	wait_s := CASE WHEN p_class = 'quota' THEN least(18000 * (1 << (n - 1)), 86400)
		ELSE least((60 * power(5, n - 1))::bigint, 3600) END;
	wait_s := greatest(wait_s, least(coalesce(p_retry_after_s, 0), 86400));
	UPDATE cooldown SET until = greatest(until, now() + make_interval(secs => wait_s))
	WHERE org_id = o AND profile_id = p_profile AND model = p_model RETURNING until INTO u;
	PERFORM tg_change('cooldown', o, 0);
	RETURN u;
END $$;
GRANT EXECUTE ON FUNCTION cooldown_set(uuid, text, text, bigint, bigint) TO tollgate_app;

-- down
DROP FUNCTION cooldown_set(uuid, text, text, bigint, bigint);
CREATE FUNCTION cooldown_set(p_profile uuid, p_model text, p_class text, p_retry_after_s bigint) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := tg_org(); n int; wait_s bigint; u timestamptz;
BEGIN
	PERFORM 1 FROM profile WHERE org_id = o AND id = p_profile;
	IF NOT FOUND THEN
		RETURN NULL; -- gone meanwhile: nothing to cool
	END IF;
	INSERT INTO cooldown (org_id, profile_id, model, class, failures, until) VALUES (o, p_profile, p_model, p_class, 1, now())
	ON CONFLICT (org_id, profile_id, model) DO UPDATE SET class = EXCLUDED.class, failures = CASE
		WHEN cooldown.until > now() THEN cooldown.failures -- calls that were in flight when it began do not add up
		WHEN cooldown.until < now() - interval '1 hour' THEN 1 ELSE least(cooldown.failures + 1, 10) END
	RETURNING failures INTO n;
	wait_s := CASE WHEN p_class = 'quota' THEN least(18000 * (1 << (n - 1)), 86400)
		ELSE least((60 * power(5, n - 1))::bigint, 3600) END;
	wait_s := greatest(wait_s, least(coalesce(p_retry_after_s, 0), 86400));
	UPDATE cooldown SET until = greatest(until, now() + make_interval(secs => wait_s))
	WHERE org_id = o AND profile_id = p_profile AND model = p_model RETURNING until INTO u;
	PERFORM tg_change('cooldown', o, 0);
	RETURN u;
END $$;
GRANT EXECUTE ON FUNCTION cooldown_set(uuid, text, text, bigint) TO tollgate_app;
