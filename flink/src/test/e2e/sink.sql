CREATE TEMPORARY TABLE src (
  id INT, name STRING,
  fate STRING METADATA VIRTUAL, cause STRING METADATA VIRTUAL, il STRING METADATA VIRTUAL,
  v BYTES METADATA FROM 'value' VIRTUAL
) WITH ('connector' = 'isolane', 'clusters' = 'normal=127.0.0.1:49092;failover=127.0.0.1:49192', 'topic' = '@TOPIC@',
  'group' = 'e2e', 'format' = 'json', 'hand-over.to' = 'file://@WORK@/hand-over' @MORE@);
CREATE TEMPORARY TABLE good (
  id INT, name STRING, k STRING METADATA FROM 'key', headers MAP<STRING, STRING> METADATA, il STRING METADATA
) WITH ('connector' = 'isolane-kafka', 'brokers' = '127.0.0.1:49092', 'topic' = 'good', 'format' = 'json',
  'transactional-id-prefix' = 'e2e-good', 'properties.compression.type' = 'lz4');
CREATE TEMPORARY TABLE apart (v BYTES, headers MAP<STRING, STRING> METADATA, il STRING METADATA)
  WITH ('connector' = 'isolane-kafka', 'brokers' = '127.0.0.1:49092', 'topic' = 'apart', 'format' = 'raw',
  'ranges-topic' = 'apart-holds', 'transactional-id-prefix' = 'e2e-apart');
SET 'pipeline.name' = 'e2e';
@SET@
EXECUTE STATEMENT SET BEGIN
INSERT INTO good SELECT id, name, name, MAP['even', IF(MOD(id, 2) = 0, 'yes', CAST(NULL AS STRING)), 'n', name], il FROM src WHERE fate IS NULL;
INSERT INTO apart SELECT v, MAP['cause', cause], il FROM src WHERE fate IS NOT NULL;
END;
