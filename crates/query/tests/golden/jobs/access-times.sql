-- input: apache_access.log
-- sinks: times
-- Times from texts, from the sender and from the journal, and as texts again.
CREATE TABLE log (
  line STRING,
  at_ AS CAST('2015-05-' || REGEXP_EXTRACT(line, '\[(\d\d)/', 1) || ' ' || REGEXP_EXTRACT(line, ':(\d\d:\d\d:\d\d) ', 1) AS TIMESTAMP(3)),
  il STRING METADATA VIRTUAL,
  append_time TIMESTAMP_LTZ(3) METADATA VIRTUAL,
  sent TIMESTAMP_LTZ(3) METADATA FROM 'event_time' VIRTUAL
) WITH ('format' = 'raw');
INSERT INTO times
SELECT il, at_, sent, append_time,
  DATE_FORMAT(at_, 'yyyy-MM-dd''T''HH:mm') AS minute_, DATE_FORMAT(append_time, 'EEE dd MMM HH:mm:ss.SSS') AS appended,
  CAST(at_ AS DATE) AS day_, CAST(at_ AS STRING) AS text, CAST(sent AS TIMESTAMP(3)) AS plain, CAST(at_ AS TIMESTAMP_LTZ(3)) AS instant,
  at_ > TIMESTAMP '2015-05-19 00:00:00' AS late, CAST(at_ AS DATE) = DATE '2015-05-18' AS second_day,
  TO_TIMESTAMP_LTZ(CHAR_LENGTH(line) * 86400, 0) AS made, COALESCE(sent, append_time) AS time_
FROM log;
