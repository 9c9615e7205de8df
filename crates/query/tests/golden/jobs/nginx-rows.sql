-- input: nginx_status.ndjson
-- sinks: whole, shares
-- ROWs as they are, and what is calculated of their fields.
CREATE TABLE status (
  nginx_version STRING,
  `timestamp` BIGINT,
  connections ROW<accepted BIGINT, dropped BIGINT, active INT, idle INT>,
  ssl ROW<handshakes BIGINT, handshakes_failed BIGINT, session_reuses BIGINT>,
  requests ROW<total BIGINT, `current` INT>,
  missing ROW<a INT, b ROW<c STRING>>,
  at_ AS TO_TIMESTAMP_LTZ(`timestamp`, 3),
  WATERMARK FOR at_ AS at_ - INTERVAL '5' SECOND
) WITH ('format' = 'json');
EXECUTE STATEMENT SET BEGIN
INSERT INTO `whole` SELECT * FROM status WHERE connections.idle > 20;
INSERT INTO shares
SELECT at_, CAST(ssl.handshakes_failed AS DOUBLE) / ssl.handshakes AS failed, ssl.session_reuses * 100 / NULLIF(ssl.handshakes, 0) AS reused,
  CAST(requests.total AS DECIMAL(20, 2)) / NULLIF(CAST(connections.accepted AS DECIMAL(20, 2)), 0) AS per_connection,
  CAST(requests.total AS INT) AS narrow, CAST(connections.active AS STRING) || '/' || CAST(connections.idle AS STRING) AS now_,
  missing.b.c AS nothing, COALESCE(missing.a, connections.active) AS some_
FROM status;
END;
