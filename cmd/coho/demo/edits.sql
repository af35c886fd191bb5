UPDATE accounts SET phone = '+1 555 0100' WHERE account_key IN (SELECT account_key FROM accounts ORDER BY account_key LIMIT 300 OFFSET 1000);
UPDATE accounts SET arr = arr + 1000000, tier = 'Gold' WHERE account_key = 'A0000042';
INSERT INTO accounts SELECT 'N' || lpad(i::VARCHAR, 7, '0'), 'A0000050', 'New Venture ' || i, NULL, 'Technology', 'Bronze', 'Porto', 'Portugal', NULL, 12, 50000 FROM range(40) t(i);
UPDATE contacts SET title = 'Chief Executive' WHERE contact_key IN (SELECT contact_key FROM contacts ORDER BY contact_key LIMIT 250 OFFSET 5000);
UPDATE contacts SET phone = NULL WHERE contact_key = 'C00000007';
DELETE FROM contacts WHERE contact_key IN (SELECT contact_key FROM contacts ORDER BY contact_key DESC LIMIT 25);
