package snapshot

import (
	"reflect"
	"testing"

	"coho/models"
	"coho/planner"
)

func FuzzRecord(f *testing.F) {
	names := []string{"Phone", "Name"}
	v := appendRecordHead(nil, "001", []string{"k", "l"}, "m")
	v = appendField(v, 1, models.Cell{Text: "x"})
	f.Add(appendField(v, 0, models.NullCell))
	f.Add(appendRecordHead(nil, "", []string{"k"}, "k"))
	dense := appendCell(appendCell(appendRecordHead(nil, "001", []string{"k"}, "k"), models.Cell{Text: "x"}), models.NullCell)
	dense[0] |= recordDense
	f.Add(dense)
	if rec, err := decodeRecord(dense, names); err != nil || len(rec.Fields) != 2 || rec.Fields[1].Name != "Phone" || rec.Fields[1].Cell.Text != "x" || !rec.Fields[0].Cell.Null {
		f.Fatalf("%+v, %v", rec, err)
	}
	if _, err := decodeRecord(appendCell(dense, models.NullCell), names); err == nil {
		f.Fatal("a field that has no name is read")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decodeRecord(b, names)
		if err != nil {
			return
		}
		again := appendRecordHead(nil, rec.ID, rec.Key, rec.Match)
		for _, field := range rec.Fields {
			number := 0
			if field.Name == names[1] {
				number = 1
			}
			again = appendField(again, number, field.Cell)
		}
		back, err := decodeRecord(again, names)
		if err != nil || len(back.Key) != len(rec.Key) || back.ID != rec.ID || back.Match != rec.Match || len(back.Fields) != len(rec.Fields) {
			t.Errorf("%+v comes back as %+v, %v", rec, back, err)
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add(appendBatch(nil, &Batch{API: "rest", Step: "write", Handle: "h", Seqs: planner.Seqs{{From: 1, To: 4}}}))
	f.Fuzz(func(t *testing.T, v []byte) {
		b, err := decodeBatch(v)
		if err != nil {
			return
		}
		back, err := decodeBatch(appendBatch(nil, &b))
		if err != nil || !reflect.DeepEqual(b, back) {
			t.Errorf("%+v comes back as %+v, %v", b, back, err)
		}
	})
}
