-- input: nginx_status.ndjson
-- sinks: texts
-- The same records as one text each. A cause shows the beginning of what could not be cast.
CREATE TABLE status (line STRING) WITH ('format' = 'raw');
INSERT INTO texts
SELECT
  JSON_VALUE(line, '$.pid') AS pid, CAST(JSON_VALUE(line, '$.timestamp') AS BIGINT) / 1000 AS seconds,
  TO_TIMESTAMP_LTZ(CAST(JSON_VALUE(line, '$.timestamp') AS BIGINT), 3) AS at_, CHAR_LENGTH(line) AS length,
  CASE JSON_VALUE(line, '$.connections.active') WHEN '1' THEN CAST(line AS INT) WHEN '2' THEN CAST(JSON_VALUE(line, '$.address') AS DOUBLE) ELSE 0 END AS n,
  SUBSTRING(line FROM 1000 FOR 40) AS middle, REGEXP_EXTRACT(line, '"trac.nginx.org":\{"processing":(\d+)', 1) AS trac
FROM status;
