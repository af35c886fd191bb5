package api

import (
	"slices"
	"testing"
)

func TestFaultsOfSOAP(t *testing.T) {
	const fault = `<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:sf="urn:fault.partner.soap.sforce.com"><soapenv:Body><soapenv:Fault>
<faultcode>sf:INVALID_SESSION_ID</faultcode><faultstring>INVALID_SESSION_ID: Invalid Session ID found</faultstring></soapenv:Fault></soapenv:Body></soapenv:Envelope>`
	found := decodeErrors([]byte(fault))
	if len(found) != 1 || found[0].code() != "INVALID_SESSION_ID" || found[0].message() != "Invalid Session ID found" {
		t.Fatalf("%+v", found)
	}
	if found := decodeErrors([]byte(`<e:Envelope xmlns:e="x"><e:Body/></e:Envelope>`)); found != nil {
		t.Fatalf("%+v", found)
	}
}

func TestFoundByDuplicateRules(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want []string
	}{
		"as orgs spell it":     {`[{"success":false,"errors":[{"statusCode":"DUPLICATES_DETECTED","duplicateResut":{"matchResults":[{"matchRecords":[{"record":{"Id":"001A"}},{"record":{"Id":"001B"}}]},{"matchRecords":[{"record":{"Id":"001A"}}]}]}}]}]`, []string{"001A", "001B"}},
		"as it is documented":  {`[{"success":false,"errors":[{"statusCode":"DUPLICATES_DETECTED","duplicateResult":{"matchResults":[{"matchRecords":[{"record":{"Id":"001A"}}]}]}}]}]`, []string{"001A"}},
		"nothing":              {`[{"success":false,"errors":[{"statusCode":"DUPLICATES_DETECTED","duplicateResult":null}]}]`, nil},
		"of a shape not known": {`[{"success":false,"errors":[{"statusCode":"DUPLICATES_DETECTED","duplicateResult":"x","duplicateResut":[1]}]}]`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			results, err := decodeSaveResults([]byte(test.body), 1)
			if err != nil || !slices.Equal(results[0].Errors[0].Found, test.want) {
				t.Fatalf("%v %+v", err, results)
			}
		})
	}
}

func FuzzDecodeErrors(f *testing.F) {
	f.Add([]byte(`<Envelope><Body><Fault><faultcode>sf:X</faultcode><faultstring>X: y</faultstring></Fault></Body></Envelope>`))
	f.Add([]byte(`[{"errorCode":"DUPLICATES_DETECTED","duplicateResut":{"matchResults":[{"matchRecords":[{"record":{"Id":"1"}}]}]}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, w := range decodeErrors(body) {
			if w.code() == "" {
				t.Fatal("an error without a code")
			}
			w.found()
		}
	})
}
