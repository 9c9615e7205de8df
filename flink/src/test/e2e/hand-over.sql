CREATE TEMPORARY TABLE src (
  id INT, name STRING,
  fate STRING METADATA VIRTUAL, cause STRING METADATA VIRTUAL, il STRING METADATA VIRTUAL
) WITH ('connector' = 'isolane', 'clusters' = 'normal=127.0.0.1:49092;failover=127.0.0.1:49192', 'topic' = '@TOPIC@',
  'format' = 'json', 'hand-over.to' = 'file://@WORK@/hand-over/topic' @MORE@);
CREATE TEMPORARY TABLE topic (id INT, name STRING, il STRING METADATA)
  WITH ('connector' = 'isolane-kafka', 'brokers' = '127.0.0.1:49092', 'topic' = 'out', 'format' = 'json', 'transactional-id-prefix' = 'flink-topic');
CREATE TEMPORARY TABLE apart (il STRING, cause STRING, `$il` STRING)
  WITH ('connector' = 'filesystem', 'path' = 'file://@WORK@/flink/apart-of-topic', 'format' = 'isolane-parquet', 'isolane-parquet.il' = '$il');
SET 'pipeline.name' = 'topic';
@SET@
EXECUTE STATEMENT SET BEGIN
INSERT INTO topic SELECT id, name, il FROM src WHERE fate IS NULL;
INSERT INTO apart SELECT il, cause, il FROM src WHERE fate IS NOT NULL;
END;
