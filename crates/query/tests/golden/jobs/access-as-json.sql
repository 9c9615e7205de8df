-- input: apache_access.log
-- sinks: files, others
-- Records of another format than the table has: none can be decoded, and each is set apart for both sinks.
CREATE TABLE log (host STRING, n INT) WITH ('format' = 'json');
EXECUTE STATEMENT SET BEGIN
INSERT INTO files SELECT host FROM log;
INSERT INTO others SELECT CAST(host AS INT) AS n FROM log;
END;
