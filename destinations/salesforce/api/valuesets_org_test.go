package api_test

import (
	"errors"
	"testing"

	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
)

// TestValueSets reads lists and replaces them; a list that the org refuses is an
// error with its code.
func TestValueSets(t *testing.T) {
	server, client := org(t, emulator.Options{})
	ctx := t.Context()
	set, err := client.ReadValueSet(ctx, api.CustomField, "Account.Tier__c")
	if err != nil || set == nil || len(set.Values) == 0 {
		t.Fatalf("%+v (%v)", set, err)
	}
	if none, err := client.ReadValueSet(ctx, api.CustomField, "Account.Nothing__c"); err != nil || none != nil {
		t.Errorf("%+v (%v)", none, err)
	}
	before, err := client.Describe(ctx, "Account")
	if err != nil {
		t.Fatal(err)
	}
	values := append(set.Values[:len(set.Values):len(set.Values)], api.ListValue{Name: "Adamant", Label: "Adamant", Active: true})
	if err := client.ReplaceValues(ctx, set, values, set.Sorted); err != nil {
		t.Fatal(err)
	}
	after, err := client.Describe(ctx, "Account")
	if err != nil {
		t.Fatal(err)
	}
	was, _ := before.Field("Tier__c")
	is, _ := after.Field("Tier__c")
	if len(is.PicklistValues) != len(was.PicklistValues)+1 {
		t.Errorf("describe is not asked anew: %d values, then %d", len(was.PicklistValues), len(is.PicklistValues))
	}

	err = client.ReplaceValues(ctx, set, append(values, api.ListValue{Active: true}), set.Sorted)
	var e *api.Error
	if !errors.As(err, &e) || e.Code != "FIELD_INTEGRITY_EXCEPTION" || e.Class != api.RowFault || e.Unknown || e.Message == "" {
		t.Errorf("%+v", err)
	}
	server.AddFault(emulator.Fault{Match: "soap", ExpireSession: true})
	if _, err := client.ReadValueSet(ctx, api.CustomField, "Account.Tier__c"); err != nil {
		t.Errorf("a session that expired: %v", err)
	}
	if names, err := client.GlobalValueSets(ctx); err != nil || len(names) != 0 {
		t.Errorf("%v (%v)", names, err)
	}
}
