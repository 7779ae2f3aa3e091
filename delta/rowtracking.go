package delta

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
)

const (
	rowTrackingDomain = "delta.rowTracking"

	// Names of the columns in which other writers keep the ids of rows that they move (PROTOCOL.md, "Row IDs").
	materializedRowIDKey            = "delta.rowTracking.materializedRowIdColumnName"
	materializedRowCommitVersionKey = "delta.rowTracking.materializedRowCommitVersionColumnName"
)

// assignsRowIDs reports whether new files get row ids (PROTOCOL.md, "Row Tracking": where it is supported, enabled or not,
// and not suspended).
func (s *state) assignsRowIDs() bool {
	return s.supports("rowTracking") && !s.isTrue("delta.rowTrackingSuspended")
}

// rowIDHighWaterMark is the highest row id that was ever assigned; -1 for none.
func (s *state) rowIDHighWaterMark() (int64, error) {
	d, ok := s.domains[rowTrackingDomain]
	if !ok {
		return -1, nil
	}
	var configuration struct {
		HighWaterMark *int64 `json:"rowIdHighWaterMark"`
	}
	err := json.Unmarshal([]byte(d.Configuration), &configuration)
	if err != nil || configuration.HighWaterMark == nil || *configuration.HighWaterMark < -1 {
		return 0, corruptf("version %d: the domainMetadata %s has no rowIdHighWaterMark: %.200q", s.version, rowTrackingDomain, d.Configuration)
	}
	return *configuration.HighWaterMark, nil
}

func (s *state) badHighWaterMark() string {
	if !s.assignsRowIDs() {
		return ""
	}
	if _, err := s.rowIDHighWaterMark(); err != nil {
		return err.Error()
	}
	return ""
}

// assignRowIDs gives new files their row ids and commit version, from the state before their version, and the
// domainMetadata that goes with them (PROTOCOL.md, "Writer Requirements for Row Tracking"). The adds given are not changed.
func (s *state) assignRowIDs(adds []Add, version int64) ([]Add, []DomainMetadata, error) {
	mark, err := s.rowIDHighWaterMark()
	if err != nil || len(adds) == 0 {
		return adds, nil, err
	}
	assigned, before := slices.Clone(adds), mark
	for i := range assigned {
		a := &assigned[i]
		rows, ok := a.NumRecords()
		if !ok {
			return nil, nil, fmt.Errorf("the add of %s has no numRecords in its statistics, which rowTracking needs", a.Path)
		}
		if rows > math.MaxInt64-1-mark {
			return nil, nil, fmt.Errorf("the add of %s has %d rows, but the table's row ids end at %d", a.Path, rows, int64(math.MaxInt64))
		}
		first := mark + 1
		a.BaseRowID, a.DefaultRowCommitVersion = &first, &version
		mark += rows
	}
	if mark == before {
		return assigned, nil, nil
	}
	configuration := `{"rowIdHighWaterMark":` + strconv.FormatInt(mark, 10) + `}`
	return assigned, []DomainMetadata{{Domain: rowTrackingDomain, Configuration: configuration}}, nil
}
