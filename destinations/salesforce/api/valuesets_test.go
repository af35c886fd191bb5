package api

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// fieldRecord is a field as an org shows it, with more in it than values.
const fieldRecord = `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns="http://soap.sforce.com/2006/04/metadata" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><readMetadataResponse><result>
<records xsi:type="CustomField"><fullName>Account.Tier__c</fullName><description>Which &lt;tier&gt;</description><inlineHelpText xsi:nil="true"/><label>Tier</label><required>false</required><trackHistory>true</trackHistory><type>Picklist</type>
<valueSet><controllingField>Region__c</controllingField><restricted>true</restricted><valueSetDefinition><sorted>false</sorted>
<value><fullName>gold</fullName><color>#FF0000</color><default>true</default><description>the best</description><label>Gold</label></value>
<value><fullName>tin</fullName><default>false</default><isActive>false</isActive><label>Tin</label></value>
</valueSetDefinition><valueSettings><controllingFieldValue>EMEA</controllingFieldValue><valueName>gold</valueName></valueSettings></valueSet></records></result></readMetadataResponse></soapenv:Body></soapenv:Envelope>`

// TestReplacedKeepsTheRest: a component goes back as it was read, save its values.
func TestReplacedKeepsTheRest(t *testing.T) {
	root, err := parseNode(strings.NewReader(fieldRecord))
	if err != nil {
		t.Fatal(err)
	}
	v := decodeValueSet(CustomField, root.kid("Body").kid("readMetadataResponse").kid("result").kid("records"))
	if v.FullName != "Account.Tier__c" || v.Sorted || v.Shared != "" || len(v.Values) != 2 || !v.Values[0].Active || v.Values[1].Active || !v.Values[0].Default {
		t.Fatalf("%+v", v)
	}
	values := append([]ListValue{{Name: "new", Label: "New & better", Active: true}}, v.Values...)
	values[1].Default, values[2].Active = false, true
	var b bytes.Buffer
	record := v.replaced(values, true)
	record.write(&b)
	want := `<metadata xsi:type="CustomField"><fullName>Account.Tier__c</fullName><description>Which &lt;tier&gt;</description><inlineHelpText xsi:nil="true"></inlineHelpText><label>Tier</label><required>false</required><trackHistory>true</trackHistory><type>Picklist</type>` +
		`<valueSet><controllingField>Region__c</controllingField><restricted>true</restricted><valueSetDefinition><sorted>true</sorted>` +
		`<value><fullName>new</fullName><default>false</default><isActive>true</isActive><label>New &amp; better</label></value>` +
		`<value><fullName>gold</fullName><color>#FF0000</color><default>false</default><description>the best</description><isActive>true</isActive><label>Gold</label></value>` +
		`<value><fullName>tin</fullName><default>false</default><isActive>true</isActive><label>Tin</label></value>` +
		`</valueSetDefinition><valueSettings><controllingFieldValue>EMEA</controllingFieldValue><valueName>gold</valueName></valueSettings></valueSet></metadata>`
	if got := b.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if v.Values[0].Default != true || v.list(&v.record).kidText("sorted") != "false" {
		t.Error("what was read has changed")
	}
}

// TestSOAPFault: a fault is an error with the org's code, and an expired session
// is renewed.
func TestSOAPFault(t *testing.T) {
	for code, class := range map[string]Class{"INVALID_SESSION_ID": RenewSession, "INSUFFICIENT_ACCESS": RowFault} {
		body := `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>sf:` + code + `</faultcode><faultstring>` + code + `: no way</faultstring></s:Fault></s:Body></s:Envelope>`
		found := decodeErrors([]byte(body))
		if len(found) != 1 || found[0].code() != code || found[0].message() != "no way" {
			t.Fatalf("%+v", found)
		}
		if got := Classify(code, "no way"); got != class {
			t.Errorf("%s is of class %v, want %v", code, got, class)
		}
	}
}

// FuzzNode: what is read of a document reads the same once it is written.
func FuzzNode(f *testing.F) {
	f.Add(fieldRecord)
	f.Add("<a><b>x &lt; y</b><c xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" i:type=\"t:Q\" i:nil=\"1\"/></a>")
	f.Add(strings.Repeat("<a>", 100))
	f.Fuzz(func(t *testing.T, text string) {
		one, err := parseNode(strings.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		b.WriteString(`<e xmlns:xsi="` + schemaSpace + `">`)
		one.write(&b)
		b.WriteString("</e>")
		two, err := parseNode(&b)
		if err != nil {
			t.Fatalf("%v in %s", err, b.String())
		}
		if len(two.kids) != 1 || !reflect.DeepEqual(*one, two.kids[0]) {
			t.Errorf("%+v became %+v", one, two)
		}
	})
}
