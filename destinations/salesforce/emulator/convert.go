package emulator

import (
	"fmt"
	"net/http"
	"time"
)

// conversion is what POST /emulator/convert-lead takes. Salesforce converts
// leads by SOAP convertLead() or in the browser; this stands for the latter.
type conversion struct {
	LeadID                 string `json:"leadId"`
	AccountID              string `json:"accountId"` // empty: a new one
	ContactID              string `json:"contactId"` // likewise
	OpportunityName        string `json:"opportunityName"`
	DoNotCreateOpportunity bool   `json:"doNotCreateOpportunity"`
}

type converted struct {
	LeadID        string `json:"leadId"`
	AccountID     string `json:"accountId"`
	ContactID     string `json:"contactId"`
	OpportunityID string `json:"opportunityId,omitempty"`
}

func (s *Server) convertLead(c *call) {
	var in conversion
	if !c.decode(&in) {
		return
	}
	out, err := s.org.ConvertLead(in.LeadID, in.AccountID, in.ContactID, in.OpportunityName, !in.DoNotCreateOpportunity)
	if err != nil {
		c.fail(http.StatusBadRequest, "INVALID", err.Error())
		return
	}
	c.json(http.StatusOK, converted{in.LeadID, out[0], out[1], out[2]})
}

// ConvertLead converts a lead as a person would in the browser. An account,
// contact or opportunity that is not given is made of the lead's values. It
// returns the Ids of account, contact and opportunity, the last "" for none.
func (o *Org) ConvertLead(leadID, accountID, contactID, opportunity string, withOpportunity bool) (ids [3]string, err error) {
	leads := o.Find("Lead", "Id", leadID)
	if len(leads) == 0 {
		return ids, fmt.Errorf("convert lead %s: there is no such lead", leadID)
	}
	lead := leads[0]
	if lead["IsConverted"] == true {
		return ids, fmt.Errorf("convert lead %s: it is converted already", leadID)
	}
	pick := func(names map[string]string) map[string]any {
		out := map[string]any{}
		for to, from := range names {
			if v := lead[from]; v != nil {
				out[to] = v
			}
		}
		return out
	}
	if accountID == "" {
		if accountID, err = o.Insert("Account", pick(map[string]string{"Name": "Company", "Phone": "Phone", "Website": "Website", "Industry": "Industry", "AnnualRevenue": "AnnualRevenue", "NumberOfEmployees": "NumberOfEmployees", "BillingCity": "City", "BillingCountry": "Country"})); err != nil {
			return ids, fmt.Errorf("convert lead %s: %w", leadID, err)
		}
	}
	if contactID == "" {
		fields := pick(map[string]string{"LastName": "LastName", "FirstName": "FirstName", "Salutation": "Salutation", "Email": "Email", "Phone": "Phone", "MobilePhone": "MobilePhone", "Title": "Title", "LeadSource": "LeadSource"})
		fields["AccountId"] = accountID
		if contactID, err = o.Insert("Contact", fields); err != nil {
			return ids, fmt.Errorf("convert lead %s: %w", leadID, err)
		}
	}
	now := o.Clock().UTC()
	changes := map[string]any{"IsConverted": true, "ConvertedDate": now.Format(time.DateOnly), "ConvertedAccountId": accountID, "ConvertedContactId": contactID, "Status": "Closed - Converted"}
	opportunityID := ""
	if withOpportunity {
		if opportunity == "" {
			opportunity = fmt.Sprint(lead["Company"], "-")
		}
		if opportunityID, err = o.Insert("Opportunity", map[string]any{"Name": opportunity, "AccountId": accountID, "StageName": "Prospecting", "CloseDate": now.AddDate(0, 3, 0).Format(time.DateOnly)}); err != nil {
			return ids, fmt.Errorf("convert lead %s: %w", leadID, err)
		}
		changes["ConvertedOpportunityId"] = opportunityID
	}
	if err := o.Update("Lead", leadID, changes); err != nil {
		return ids, fmt.Errorf("convert lead %s: %w", leadID, err)
	}
	return [3]string{accountID, contactID, opportunityID}, nil
}
