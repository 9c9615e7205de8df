-- input: apache_access.log
-- sinks: files
-- Texts taken apart, turned around and put together.
CREATE TABLE log (
  line STRING,
  page AS REGEXP_EXTRACT(line, '"[A-Z]+ ([^ ]+) HTTP', 1),
  referer AS REGEXP_EXTRACT(line, '" \d{3} \S+ "([^"]*)"', 1),
  agent AS REGEXP_EXTRACT(line, '"([^"]*)"$', 1)
) WITH ('format' = 'raw');
INSERT INTO files
SELECT
  SPLIT_INDEX(page, '?', 0) AS place, SPLIT_INDEX(page, '?', 1) AS query, SPLIT_INDEX(line, ' ', 200) AS far,
  UPPER(SUBSTRING(page FROM 2 FOR 12)) AS loud, SUBSTRING(page, -4) AS ending, CHAR_LENGTH(line) AS length,
  TRIM(BOTH '/' FROM page) AS trimmed, TRIM(LEADING 'M' FROM agent) AS ozilla, LOWER(agent) AS agent,
  NULLIF(referer, '-') AS referer, REGEXP_EXTRACT(referer, '^(https?)://([^/:]+)', 2) AS site,
  IF(CHAR_LENGTH(page) > 40, 'long', 'short') AS kind, page || ' from ' || SPLIT_INDEX(line, ' ', 0) AS who,
  CONCAT(page, agent) AS both_, page IN ('/favicon.ico', '/robots.txt') AS usual, agent IS DISTINCT FROM referer AS differs
FROM log
WHERE NOT (page LIKE '/presentations/%') OR page IS NULL;
