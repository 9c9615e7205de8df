-- input: nginx_status.ndjson
-- sinks: zones
-- Values out of objects whose keys are data; some casts fail, where they are asked for.
CREATE TABLE status (
  `timestamp` BIGINT,
  connections ROW<active INT>,
  server_zones STRING,
  upstreams STRING
) WITH ('format' = 'json');
INSERT INTO zones
SELECT
  `timestamp` AS at_,
  CAST(JSON_VALUE(server_zones, '$[''hg.nginx.org''].requests') AS BIGINT) AS hg,
  CAST(JSON_VALUE(server_zones, '$[''trac.nginx.org''].responses.total') AS BIGINT) - CAST(JSON_VALUE(server_zones, '$[''trac.nginx.org''].responses[''2xx'']') AS BIGINT) AS trac_rest,
  JSON_VALUE(server_zones, '$.none.at.all') AS nothing, JSON_VALUE(server_zones, '$[''hg.nginx.org'']') AS object,
  JSON_VALUE(upstreams, '$[''trac-backend''].peers[0].server') AS server, JSON_VALUE(upstreams, '$[''trac-backend''].peers[9].server' DEFAULT 'none' ON EMPTY) AS tenth,
  CASE WHEN connections.active > 4 THEN CAST(JSON_VALUE(upstreams, '$[''trac-backend''].peers[1].state') AS INT) ELSE -1 END AS state
FROM status;
