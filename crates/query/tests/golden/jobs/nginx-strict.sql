-- input: nginx_status.ndjson
-- sinks: strict
-- Other types than the values have: what JSON converts, and what it cannot.
CREATE TABLE status (
  version STRING,
  generation DOUBLE,
  nginx_version VARCHAR(3),
  `timestamp` DECIMAL(20, 1),
  processes STRING,
  pid BOOLEAN,
  connections ROW<accepted FLOAT, active STRING, idle DECIMAL(4, 2)>,
  ssl ROW<handshakes INT, handshakes_failed SMALLINT>,
  requests ROW<`current` TINYINT>
) WITH ('format' = 'json');
INSERT INTO strict SELECT * FROM status;
