-- input: apache_access.log
-- sinks: agents
-- A sink whose columns may not be NULL: the first that is decides about the cause.
CREATE TABLE log (
  line STRING,
  referer AS REGEXP_EXTRACT(line, '" \d{3} \S+ "([^"]*)"', 1),
  agent AS REGEXP_EXTRACT(line, '"([^"]*)"$', 1)
) WITH ('format' = 'raw');
CREATE TABLE agents (family VARCHAR(12) NOT NULL, major INT NOT NULL, referer STRING NOT NULL, minor INT);
INSERT INTO agents
SELECT
  CASE WHEN agent LIKE '%Firefox/%' THEN 'firefox' WHEN agent LIKE '%Chrome/%' THEN 'chrome' WHEN agent LIKE '%MSIE %' THEN 'msie' END,
  TRY_CAST(REGEXP_EXTRACT(agent, '(Firefox/|Chrome/|MSIE )(\d+)', 2) AS INT),
  NULLIF(referer, '-'),
  CAST(REGEXP_EXTRACT(agent, '(Firefox/|Chrome/|MSIE )(\d+)\.(\w+)', 3) AS INT)
FROM log WHERE agent IS NOT NULL;
