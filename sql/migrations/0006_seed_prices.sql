-- 0006_seed_prices: list prices of 2026-08-21 into both price books, and the models they name.
--
-- A seed for the operator's own catalogue, not an authority. One document goes to billing (prices)
-- and routing (capabilities); what stands in the tables already is not touched.
DO $do$
DECLARE doc jsonb := $seed$
-- include: seed/prices.json
$seed$;
BEGIN
	PERFORM price_import(doc);
	PERFORM model_import(doc);
END $do$;

-- down
-- Seeded rows are kept: calls may have been rated with them. Migrating up again leaves them as they are.
SELECT 1;
