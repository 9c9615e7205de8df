-- input: json-rest.in
-- sinks: files
-- differs: json-rest
CREATE TABLE t (a INT) WITH ('format' = 'json');
INSERT INTO files SELECT a FROM t;
