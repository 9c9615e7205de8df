-- input: nginx_status.ndjson
-- sinks: files
-- Status reports of nginx, one JSON object a record, with nested objects read as ROWs. Reserved words stand in backticks.
-- Objects whose keys are data (server_zones, upstreams) are declared STRING: they hold the JSON text, for JSON_VALUE.
CREATE TABLE nginx_status (
  version INT,
  nginx_version STRING,
  address STRING,
  generation INT,
  `timestamp` BIGINT,
  pid INT,
  processes ROW<respawned INT>,
  connections ROW<accepted BIGINT, dropped BIGINT, active INT, idle INT>,
  ssl ROW<handshakes BIGINT, handshakes_failed BIGINT, session_reuses BIGINT>,
  requests ROW<total BIGINT, `current` INT>,
  server_zones STRING,
  event_time AS TO_TIMESTAMP_LTZ(`timestamp`, 3),
  WATERMARK FOR event_time AS event_time - INTERVAL '60' SECOND
) WITH ('format' = 'json');

INSERT INTO files
SELECT
  event_time,
  nginx_version,
  address,
  connections.accepted,
  connections.active,
  connections,
  ssl.handshakes - ssl.handshakes_failed AS handshakes_done,
  requests.total AS requests,
  requests.`current` AS requests_now,
  CAST(JSON_VALUE(server_zones, '$[''hg.nginx.org''].requests') AS BIGINT) AS hg_requests
FROM nginx_status;
