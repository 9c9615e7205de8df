CREATE TEMPORARY TABLE src (
  id INT, name STRING,
  fate STRING METADATA VIRTUAL, cause STRING METADATA VIRTUAL, il STRING METADATA VIRTUAL,
  v BYTES METADATA FROM 'value' VIRTUAL
) WITH ('connector' = 'isolane', 'clusters' = 'normal=127.0.0.1:49092;failover=127.0.0.1:49192', 'topic' = '@TOPIC@',
  'group' = 'e2e', 'format' = 'json', 'hand-over.to' = 'file://@WORK@/hand-over' @MORE@);
-- The column il goes into the footer; kept is the same once more, so that footers and rows can be held against each other.
CREATE TEMPORARY TABLE good (id INT, name STRING, kept STRING, il STRING)
  WITH ('connector' = 'filesystem', 'path' = 'file://@WORK@/good', 'format' = 'isolane-parquet', 'isolane-parquet.compression' = 'ZSTD');
CREATE TEMPORARY TABLE apart (il STRING, fate STRING, cause STRING, v STRING)
  WITH ('connector' = 'filesystem', 'path' = 'file://@WORK@/apart', 'format' = 'json',
  'sink.rolling-policy.rollover-interval' = '1 s', 'sink.rolling-policy.check-interval' = '1 s');
SET 'pipeline.name' = 'e2e';
@SET@
EXECUTE STATEMENT SET BEGIN
INSERT INTO good SELECT id, name, il, il FROM src WHERE fate IS NULL;
INSERT INTO apart SELECT il, fate, cause, DECODE(v, 'UTF-8') FROM src WHERE fate IS NOT NULL;
END;
