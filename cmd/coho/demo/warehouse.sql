CREATE TABLE accounts AS
SELECT
  'A' || lpad(i::VARCHAR, 7, '0') AS account_key,
  CASE WHEN i % 5 <> 0 THEN 'A' || lpad((i - i % 5)::VARCHAR, 7, '0')
       WHEN i % 50 <> 0 THEN 'A' || lpad((i - i % 50)::VARCHAR, 7, '0') END AS parent_key,
  ['Northwind', 'Blue Harbor', 'Acme', 'Summit', 'Redwood', 'Lighthouse', 'Granite', 'Clearwater', 'Ironbridge', 'Sunfield'][1 + i % 10]
    || ' ' || ['Logistics', 'Foods', 'Energy', 'Robotics', 'Textiles', 'Medical', 'Software', 'Paper', 'Glass'][1 + (i // 10) % 9]
    || CASE WHEN i % 5 = 0 THEN ' Group ' ELSE ' ' END || i AS name,
  CASE WHEN i % 9 <> 0 THEN '+1 555 ' || lpad((i * 7919 % 10000000)::VARCHAR, 7, '0') END AS phone,
  ['Energy', 'Retail', 'Healthcare', 'Technology', 'Manufacturing', 'Transportation'][1 + i % 6] AS industry,
  ['Bronze', 'Bronze', 'Bronze', 'Silver', 'Silver', 'Gold'][1 + (i * 31) % 6] AS tier,
  ['Rotterdam', 'Leeds', 'Lyon', 'Turin', 'Gdansk', 'Porto', 'Malmö', 'Graz'][1 + i % 8] AS city,
  ['Netherlands', 'United Kingdom', 'France', 'Italy', 'Poland', 'Portugal', 'Sweden', 'Austria'][1 + i % 8] AS country,
  'https://www.example.com/' || i AS website,
  5 + (i * 37) % 5000 AS employees,
  ((i * 104729) % 90000000)::DECIMAL(18, 0) AS arr
FROM range($accounts) t(i);

CREATE TABLE contacts AS
SELECT
  'C' || lpad(i::VARCHAR, 8, '0') AS contact_key,
  'A' || lpad((i * 7 % $accounts)::VARCHAR, 7, '0') AS account_key,
  ['Ada', 'Noor', 'Mateo', 'Ines', 'Jonas', 'Priya', 'Sofia', 'Tom', 'Yuki', 'Zoë'][1 + i % 10] AS first_name,
  ['Okafor', 'de Vries', 'Rossi', 'Novak', 'Silva', 'Lindqvist', 'Haddad', 'Brown', 'Tanaka'][1 + (i // 10) % 9] AS last_name,
  'person' || i || '@example.com' AS email,
  CASE WHEN i % 4 <> 0 THEN '+1 555 ' || lpad((i * 104729 % 10000000)::VARCHAR, 7, '0') END AS phone,
  ['Buyer', 'Director of Operations', 'Head of Finance', 'Engineer', 'Owner'][1 + i % 5] AS title,
  i % 17 = 0 AS opted_out
FROM range($contacts) t(i);
