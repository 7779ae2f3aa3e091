package pipeline

import (
	"testing"

	"kafkadelta/batch"
)

// TestLanesAreFullOnAverage: were the first full lane to decide, the files of the others would be smaller than the target.
func TestLanesAreFullOnAverage(t *testing.T) {
	for name, tc := range map[string]struct {
		filled []int64
		full   bool
	}{
		"none has anything":            {[]int64{0, 0}, false},
		"the only one":                 {[]int64{0, 100, 0}, true},
		"one has a little less":        {[]int64{99, 0}, false},
		"the first of two":             {[]int64{100, 60}, false},
		"both on average":              {[]int64{120, 80}, true},
		"one has far more than others": {[]int64{125, 10}, true},
	} {
		d := &dispatcher{Options: Options{Config: Config{Flush: batch.Config{Bytes: 100}}}}
		for _, filled := range tc.filled {
			l := &lane{}
			l.filled.Store(filled)
			d.lanes = append(d.lanes, l)
		}
		if full := d.full(); full != tc.full {
			t.Errorf("%s: %v is full: %v", name, tc.filled, full)
		}
	}
}
