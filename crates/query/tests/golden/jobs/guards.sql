-- input: guards.in
-- sinks: and_, or_, coalesced, cased, valued, chosen, between_, listed, exact, nested, required
-- Made, not real: each way of deciding before a cast that can fail, and values that can just be cast, or just not.
CREATE TABLE t (a STRING, k INT, d STRING, x AS CAST(d AS DOUBLE), n AS CAST(a AS INT)) WITH ('format' = 'json');
CREATE TABLE required (k INT NOT NULL, n INT, a STRING NOT NULL, d STRING NOT NULL);
EXECUTE STATEMENT SET BEGIN
INSERT INTO and_ SELECT k, k > 2 AND CAST(a AS INT) > 1 AND CAST(d AS INT) = 2 AS v FROM t;
INSERT INTO or_ SELECT k, k > 2 OR CAST(a AS INT) > 1 OR CAST(d AS INT) = 2 AS v FROM t;
INSERT INTO coalesced SELECT k, COALESCE(TRY_CAST(a AS INT), CAST(d AS INT), k) AS v, IFNULL(k, n) AS w FROM t;
INSERT INTO cased SELECT k, CASE WHEN k = 1 THEN n WHEN CAST(d AS FLOAT) > 0 THEN 7 ELSE CAST(a AS SMALLINT) END AS v FROM t;
INSERT INTO valued SELECT k, CASE CAST(a AS INT) WHEN 1 THEN 'one' WHEN CAST(d AS INT) THEN 'same' ELSE CAST(k AS STRING) END AS v FROM t;
INSERT INTO chosen SELECT k, IF(k > 2, n, CAST(d AS INT)) AS v, NULLIF(k, CAST(a AS INT)) AS w FROM t AS u WHERE u.k IS NOT NULL;
INSERT INTO between_ SELECT k FROM t AS u WHERE k BETWEEN 2 AND CAST(u.a AS INT) OR k NOT BETWEEN CAST(d AS INT) AND 2;
INSERT INTO listed SELECT k, 1 IN (k, n, CAST(d AS INT)) AS v, n IS DISTINCT FROM k AS w, a LIKE '%x%' AND n IS NULL AS y FROM t;
INSERT INTO exact SELECT k, CAST(x AS DECIMAL(10, 2)) AS v, CAST(CAST(x AS FLOAT) AS DECIMAL(4, 1)) AS w FROM t WHERE x IS NOT NULL;
INSERT INTO nested SELECT k, TRY_CAST(CAST(a AS INT) + 1 AS STRING) AS v, CAST(SUBSTRING(CAST(CAST(a AS BIGINT) AS STRING) || d, 1, 3) AS INT) AS w FROM t;
INSERT INTO required SELECT k, TRY_CAST(a AS INT), a, d FROM t WHERE k IS NULL OR n > 0;
END;
