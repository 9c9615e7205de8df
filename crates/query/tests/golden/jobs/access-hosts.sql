-- input: apache_access.log
-- sinks: hosts
-- Whole numbers that wrap around, and octets that fail a TINYINT.
CREATE TABLE log (
  line STRING,
  host AS SPLIT_INDEX(line, ' ', 0)
) WITH ('format' = 'raw');
INSERT INTO hosts
SELECT
  host, CAST(SPLIT_INDEX(host, '.', 0) AS SMALLINT) AS a, CAST(SPLIT_INDEX(host, '.', 3) AS TINYINT) AS d,
  CAST(SPLIT_INDEX(host, '.', 0) AS INT) * 16777216 + CAST(SPLIT_INDEX(host, '.', 1) AS INT) * 65536 AS wraps,
  CAST(SPLIT_INDEX(host, '.', 0) AS BIGINT) * 16777216 AS wide, -CAST(SPLIT_INDEX(host, '.', 2) AS INT) AS c,
  CAST(CAST(SPLIT_INDEX(host, '.', 1) AS INT) AS FLOAT) / 3 AS third, TRY_CAST(SPLIT_INDEX(host, '.', 3) AS BOOLEAN) AS truth,
  CAST(SPLIT_INDEX(host, '.', 1) || '.' || SPLIT_INDEX(host, '.', 2) AS DECIMAL(6, 1)) AS middle,
  CAST(SPLIT_INDEX(host, '.', 2) AS INT) BETWEEN 10 AND 99 AS two
FROM log
WHERE CAST(SPLIT_INDEX(host, '.', 1) AS INT) > 20 AND (host LIKE '1%' OR CAST(SPLIT_INDEX(host, '.', 2) AS TINYINT) > 3);
