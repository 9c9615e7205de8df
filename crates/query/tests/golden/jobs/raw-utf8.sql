-- input: raw-utf8.in
-- sinks: files
-- differs: raw-utf8
CREATE TABLE t (line STRING) WITH ('format' = 'raw');
INSERT INTO files SELECT UPPER(line) AS loud, CHAR_LENGTH(line) AS length, CAST(line AS BYTES) AS bytes_ FROM t;
