-- input: apache_access.log
-- sinks: files
-- Apache's combined log format, one line a record. Runs unchanged on the embedded engine and on Apache Flink.
--
-- A line that does not match as a whole must not become a row of NULLs: REGEXP_EXTRACT yields NULL then, COALESCE turns
-- that into a text that is no number, and the CAST of `status` fails, which sets the record apart with its cause.
-- All calls name the same pattern: it is matched once a line.
CREATE TABLE access_log (
  line STRING,
  moment AS REGEXP_EXTRACT(line, '^(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d+|-) "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"$', 4),
  -- 17/May/2015:10:05:03 +0000 becomes 2015-05-17 10:05:03. Lines with another zone than +0000 are set apart.
  event_time AS CAST(
    SUBSTRING(REGEXP_EXTRACT(line, '^\S+ \S+ \S+ \[([^\]]+) \+0000\]', 1) FROM 8 FOR 4) || '-' ||
    CASE SUBSTRING(REGEXP_EXTRACT(line, '^\S+ \S+ \S+ \[([^\]]+) \+0000\]', 1) FROM 4 FOR 3)
      WHEN 'Jan' THEN '01' WHEN 'Feb' THEN '02' WHEN 'Mar' THEN '03' WHEN 'Apr' THEN '04'
      WHEN 'May' THEN '05' WHEN 'Jun' THEN '06' WHEN 'Jul' THEN '07' WHEN 'Aug' THEN '08'
      WHEN 'Sep' THEN '09' WHEN 'Oct' THEN '10' WHEN 'Nov' THEN '11' WHEN 'Dec' THEN '12' ELSE '??' END || '-' ||
    SUBSTRING(REGEXP_EXTRACT(line, '^\S+ \S+ \S+ \[([^\]]+) \+0000\]', 1) FROM 1 FOR 2) || ' ' ||
    SUBSTRING(REGEXP_EXTRACT(line, '^\S+ \S+ \S+ \[([^\]]+) \+0000\]', 1) FROM 13 FOR 8)
    AS TIMESTAMP(3)),
  WATERMARK FOR event_time AS event_time - INTERVAL '60' SECOND
) WITH ('format' = 'raw');

INSERT INTO files
SELECT
  event_time,
  REGEXP_EXTRACT(line, '^(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d+|-) "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"$', 1) AS host,
  moment AS `time`,
  REGEXP_EXTRACT(line, '^(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d+|-) "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"$', 5) AS request,
  CAST(COALESCE(REGEXP_EXTRACT(line, '^(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d+|-) "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"$', 6), 'the line does not match') AS INT) AS status,
  TRY_CAST(REGEXP_EXTRACT(line, '^(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d+|-) "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"$', 7) AS BIGINT) AS `bytes`,
  REGEXP_EXTRACT(line, '^(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d+|-) "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"$', 8) AS referer,
  REGEXP_EXTRACT(line, '^(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d+|-) "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"$', 9) AS agent
FROM access_log;
