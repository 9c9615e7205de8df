-- input: apache_access.log
-- sinks: errors, pages
-- Two sinks of one source: what fails on the way to one is delivered to the other, or left out there.
CREATE TABLE log (
  line STRING,
  status AS CAST(REGEXP_EXTRACT(line, '" (\d{3}) ', 1) AS INT),
  page AS REGEXP_EXTRACT(line, '"[A-Z]+ ([^ ]+) HTTP', 1),
  size AS REGEXP_EXTRACT(line, '" \d{3} (\d+|-)', 1)
) WITH ('format' = 'raw');
EXECUTE STATEMENT SET BEGIN
INSERT INTO errors
SELECT SPLIT_INDEX(line, ' ', 0) AS host, status, page, CAST(size AS INT) AS size FROM log AS l WHERE l.status >= 400;
INSERT INTO pages
SELECT page, status / 100 AS class,
  CASE WHEN page LIKE '%.png' OR page LIKE '%.jpg' THEN 'image' WHEN page LIKE '%/' THEN 'page'
    ELSE COALESCE(REGEXP_EXTRACT(page, '\.([a-z0-9]+)$', 1), 'none') END AS kind,
  CASE WHEN status = 304 THEN 0 ELSE CAST(size AS INT) END AS size
FROM log WHERE status < 400 AND page IS NOT NULL AND page NOT LIKE '/presentations/%';
END;
