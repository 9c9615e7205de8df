-- input: apache_access.log
-- sinks: sizes
-- Numbers from texts: exact, approximate, too large for their types, and '-', which is none.
CREATE TABLE log (
  line STRING,
  size AS REGEXP_EXTRACT(line, '" \d{3} (\d+|-)', 1),
  il STRING METADATA VIRTUAL
) WITH ('format' = 'raw');
CREATE TABLE sizes (
  il STRING NOT NULL, n BIGINT NOT NULL, kib BIGINT, rest BIGINT, wrapped SMALLINT, fits SMALLINT, price DECIMAL(24, 6), third DOUBLE, little DECIMAL(6, 2)
);
INSERT INTO sizes
SELECT il, CAST(size AS BIGINT), CAST(size AS BIGINT) / 1024, MOD(CAST(size AS BIGINT), 7), CAST(CAST(size AS BIGINT) AS SMALLINT),
  TRY_CAST(size AS SMALLINT), CAST(size AS DECIMAL(12, 2)) * 3.25, CAST(size AS DOUBLE) / 3,
  CASE WHEN CHAR_LENGTH(size) < 6 THEN CAST(size AS DECIMAL(6, 2)) END
FROM log;
