package emulator

import (
	"bytes"
	_ "embed" // the default org
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/zeebo/xxh3"
)

//go:embed defaultorg.toml
var defaultOrg []byte

// The org file. Every key is shown in defaultorg.toml.
type orgFile struct {
	Base    string       `toml:"base"` // "sales" (default): on top of the default org; "none"
	Org     orgSection   `toml:"org"`
	Limits  limitSection `toml:"limits"`
	Objects []objectFile `toml:"objects"`
	Records []recordFile `toml:"records"`

	ValueSets []valueSetFile `toml:"global_value_sets"`
}

type orgSection struct {
	ID            string `toml:"id"`
	Name          string `toml:"name"`
	Username      string `toml:"username"`
	Password      string `toml:"password"`
	ClientID      string `toml:"client_id"`
	ClientSecret  string `toml:"client_secret"`
	SecurityToken string `toml:"security_token"`
	PublicKey     string `toml:"public_key"`      // PEM of a certificate or public key, for the JWT bearer flow
	PublicKeyFile string `toml:"public_key_file"` // the same, as a file

	PersonAccounts bool `toml:"person_accounts"`
}

type limitSection struct {
	DailyAPICalls    int `toml:"daily_api_calls"`
	DailyBulkBatches int `toml:"daily_bulk_batches"`
	HourlyEvents     int `toml:"hourly_platform_events"` // published; 0: 250,000
	SessionSeconds   int `toml:"session_seconds"`        // a token's life, sliding; 0: two hours

	ConcurrentLongRequests int     `toml:"concurrent_long_requests"` // negative: no limit
	LongRequestSeconds     float64 `toml:"long_request_seconds"`
}

type objectFile struct {
	Name            string               `toml:"name"`
	Label           string               `toml:"label"`
	LabelPlural     string               `toml:"label_plural"`
	Prefix          string               `toml:"prefix"`
	Owners          []string             `toml:"owners"` // what may own a record; none: no OwnerId
	Mergeable       bool                 `toml:"mergeable"`
	NoBulk          bool                 `toml:"no_bulk"`
	ReadOnly        bool                 `toml:"read_only"`
	NoName          bool                 `toml:"no_name"` // no Name field is added to a custom object
	Fields          []fieldFile          `toml:"fields"`
	RecordTypes     []recordTypeFile     `toml:"record_types"`
	ValidationRules []validationRuleFile `toml:"validation_rules"`
	DuplicateRules  []duplicateRuleFile  `toml:"duplicate_rules"`
	AssignmentRules []assignmentRuleFile `toml:"assignment_rules"`
}

type valueSetFile struct {
	Name     string   `toml:"name"`
	Label    string   `toml:"label"`
	Values   []string `toml:"values"`
	Inactive []string `toml:"inactive"`
	Default  string   `toml:"default"`
}

type fieldFile struct {
	Name              string   `toml:"name"`
	Label             string   `toml:"label"`
	Type              string   `toml:"type"`
	Length            int      `toml:"length"`
	Precision         int      `toml:"precision"`
	Scale             int      `toml:"scale"`
	Required          bool     `toml:"required"`
	ExternalID        bool     `toml:"external_id"`
	Unique            bool     `toml:"unique"`
	CaseSensitive     bool     `toml:"case_sensitive"`
	IDLookup          bool     `toml:"id_lookup"`
	NameField         bool     `toml:"name_field"`
	NotCreateable     bool     `toml:"not_createable"`
	NotUpdateable     bool     `toml:"not_updateable"`
	Hidden            bool     `toml:"hidden"`
	ReadOnly          bool     `toml:"read_only"`
	Restricted        bool     `toml:"restricted"`
	Values            []string `toml:"values"`
	ValueSet          string   `toml:"value_set"` // a global value set, instead of values
	Inactive          []string `toml:"inactive"`
	Default           string   `toml:"default"`
	ReferenceTo       []string `toml:"reference_to"`
	Relationship      string   `toml:"relationship"`
	ChildRelationship string   `toml:"child_relationship"`
	MasterDetail      bool     `toml:"master_detail"`
	Reparentable      bool     `toml:"reparentable"`
	RestrictDelete    bool     `toml:"restrict_delete"`
	Locks             *bool    `toml:"locks"` // default: true for lookups and master-detail
	Compound          string   `toml:"compound"`
	AutoNumber        string   `toml:"auto_number"` // display format
	Formula           string   `toml:"formula"`
	ExtraTypeInfo     string   `toml:"extra_type_info"`
}

type recordTypeFile struct {
	DeveloperName string              `toml:"developer_name"`
	Name          string              `toml:"name"`
	Default       bool                `toml:"default"`
	Inactive      bool                `toml:"inactive"`
	Unavailable   bool                `toml:"unavailable"` // not assigned in the users' profile
	Person        bool                `toml:"person"`
	Picklists     map[string][]string `toml:"picklists"`
}

type validationRuleFile struct {
	Name    string `toml:"name"`
	When    string `toml:"when"` // an expression; true refuses the record
	Message string `toml:"message"`
	Field   string `toml:"field"`
}

type duplicateRuleFile struct {
	Name   string   `toml:"name"`
	Fields []string `toml:"fields"`
	Action string   `toml:"action"` // block (default), alert
}

type assignmentRuleFile struct {
	Name  string `toml:"name"`
	When  string `toml:"when"`  // an expression; "": every new record
	Owner string `toml:"owner"` // a user's Username, or a queue's DeveloperName or Name
}

type recordFile struct {
	Object string         `toml:"object"`
	Values map[string]any `toml:"values"`
}

func decodeOrgFile(name string, text []byte) (*orgFile, error) {
	var file orgFile
	dec := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			return nil, fmt.Errorf("read org file %s: %s", name, strings.TrimSpace(strict.String()))
		}
		return nil, fmt.Errorf("read org file %s: %w", name, err)
	}
	return &file, nil
}

// loadOrgFile reads the default org and the named file on top of it.
func loadOrgFile(name string) (*orgFile, error) {
	base, err := decodeOrgFile("defaultorg.toml", defaultOrg)
	if err != nil || name == "" {
		return base, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read org file: %w", err)
	}
	file, err := decodeOrgFile(name, text)
	if err != nil {
		return nil, err
	}
	switch file.Base {
	case "none":
		base = &orgFile{Org: base.Org, Limits: base.Limits, Objects: systemObjects(base.Objects)}
	case "", "sales":
	default:
		return nil, fmt.Errorf("read org file %s: base %q: want sales or none", name, file.Base)
	}
	return base.overlay(file), nil
}

// systemObjects are those that no org is without.
func systemObjects(all []objectFile) []objectFile {
	var kept []objectFile
	for _, o := range all {
		if o.Name == "User" || o.Name == "Group" || o.Name == "RecordType" || o.Name == "Organization" {
			kept = append(kept, o)
		}
	}
	return kept
}

func set[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

// overlay adds a file's objects, fields and settings; a field or object of a
// name that exists replaces, respectively extends it.
func (base *orgFile) overlay(file *orgFile) *orgFile {
	set(&base.Org.ID, file.Org.ID)
	set(&base.Org.Name, file.Org.Name)
	set(&base.Org.Username, file.Org.Username)
	set(&base.Org.Password, file.Org.Password)
	set(&base.Org.ClientID, file.Org.ClientID)
	set(&base.Org.ClientSecret, file.Org.ClientSecret)
	set(&base.Org.SecurityToken, file.Org.SecurityToken)
	set(&base.Org.PublicKey, file.Org.PublicKey)
	set(&base.Org.PublicKeyFile, file.Org.PublicKeyFile)
	set(&base.Org.PersonAccounts, file.Org.PersonAccounts)
	set(&base.Limits.DailyAPICalls, file.Limits.DailyAPICalls)
	set(&base.Limits.DailyBulkBatches, file.Limits.DailyBulkBatches)
	set(&base.Limits.HourlyEvents, file.Limits.HourlyEvents)
	set(&base.Limits.SessionSeconds, file.Limits.SessionSeconds)
	set(&base.Limits.ConcurrentLongRequests, file.Limits.ConcurrentLongRequests)
	set(&base.Limits.LongRequestSeconds, file.Limits.LongRequestSeconds)
	base.ValueSets = append(base.ValueSets, file.ValueSets...)
	base.Records = append(base.Records, file.Records...)
	for _, add := range file.Objects {
		var into *objectFile
		for i := range base.Objects {
			if strings.EqualFold(base.Objects[i].Name, add.Name) {
				into = &base.Objects[i]
			}
		}
		if into == nil {
			base.Objects = append(base.Objects, add)
			continue
		}
		set(&into.Label, add.Label)
		set(&into.LabelPlural, add.LabelPlural)
		into.RecordTypes = append(into.RecordTypes, add.RecordTypes...)
		into.ValidationRules = append(into.ValidationRules, add.ValidationRules...)
		into.AssignmentRules = append(into.AssignmentRules, add.AssignmentRules...)
		into.DuplicateRules = append(into.DuplicateRules, add.DuplicateRules...)
		for _, f := range add.Fields {
			replaced := false
			for i := range into.Fields {
				if strings.EqualFold(into.Fields[i].Name, f.Name) {
					into.Fields[i], replaced = f, true
				}
			}
			if !replaced {
				into.Fields = append(into.Fields, f)
			}
		}
	}
	return base
}

// freePrefix makes up a key prefix for an object that the file gives none. It is
// made of the object's name, so that Ids outlive a change of the file.
func (o *Org) freePrefix(name string) string {
	letter := "a"
	if strings.HasSuffix(name, "__e") {
		letter = "e"
	}
	for n := xxh3.HashString(strings.ToLower(name)); ; n++ {
		if prefix := letter + string(base62[n/62%62]) + string(base62[n%62]); o.byKey[prefix] == nil {
			return prefix
		}
	}
}

// buildOrg makes the org that a file describes, without its records.
func buildOrg(file *orgFile, seed int64) (*Org, error) {
	o := &Org{
		id: file.Org.ID, name: file.Org.Name, byName: map[string]*object{}, byKey: map[string]*object{},
		rng: rand.New(rand.NewPCG(uint64(seed), 0x5f0)), events: map[string][]map[string]any{},
		schema: time.Now().UTC(), published: map[int64]int{}, hourlyEvents: file.Limits.HourlyEvents,
	}
	if o.hourlyEvents == 0 {
		o.hourlyEvents = maxHourlyEvents
	}
	if file.Org.PersonAccounts {
		if err := file.addPersonAccounts(); err != nil {
			return nil, err
		}
	}
	for i := range file.Objects {
		of := &file.Objects[i]
		if of.Prefix == "" {
			of.Prefix = o.freePrefix(of.Name)
		}
		obj, err := buildObject(of)
		if err != nil {
			return nil, fmt.Errorf("org file: object %s: %w", of.Name, err)
		}
		if o.object(obj.name) != nil {
			return nil, fmt.Errorf("org file: object %s is there twice", obj.name)
		}
		if other := o.byKey[obj.prefix]; other != nil {
			return nil, fmt.Errorf("org file: objects %s and %s share the key prefix %s", other.name, obj.name, obj.prefix)
		}
		o.objects = append(o.objects, obj)
		o.byName[strings.ToLower(obj.name)] = obj
		o.byKey[obj.prefix] = obj
	}
	for _, obj := range o.objects {
		for _, f := range obj.refs {
			for i, name := range f.referenceTo {
				target := o.object(name)
				if target == nil {
					return nil, fmt.Errorf("org file: field %s.%s refers to %s, which is not an object of this org", obj.name, f.name, name)
				}
				f.referenceTo[i] = target.name
				target.kids = append(target.kids, f)
			}
		}
	}
	if file.Org.PersonAccounts {
		o.linkPersons()
	}
	if err := o.addValueSets(file); err != nil {
		return nil, err
	}
	return o, nil
}
