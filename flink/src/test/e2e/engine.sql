CREATE TABLE records (
  id INT, name STRING,
  kept STRING METADATA FROM 'il' VIRTUAL -- once more as a column, so that footers and rows can be held against each other
) WITH ('format' = 'json');
INSERT INTO good SELECT id, TRIM(name) AS name, kept FROM records WHERE id >= 0;
