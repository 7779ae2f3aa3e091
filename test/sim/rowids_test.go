package sim

import "encoding/json"

// rowTracking has versions give row ids (invariant I9).
const (
	rowTracking       = "delta.enableRowTracking"
	rowTrackingDomain = "delta.rowTracking"
)

// rowIDs are those of a file, and the version that has brought it.
type rowIDs struct{ first, version int64 }

func (w *world) tracksRows() bool { return w.properties[rowTracking] == "true" }

// takeRowIDs looks at the row ids of files that a version adds, in their order: none was given before, as the table says itself.
func (s *shelf) takeRowIDs(version int64, actions []line) {
	if !s.w.tracksRows() {
		return
	}
	told := s.rowMark
	for _, a := range actions {
		if a.Domain == nil || a.Domain.Domain != rowTrackingDomain {
			continue
		}
		var mark struct {
			Highest int64 `json:"rowIdHighWaterMark"`
		}
		if err := json.Unmarshal([]byte(a.Domain.Configuration), &mark); err != nil {
			s.w.fault("version %s%d: its row ids can't be read: %v", s.name, version, err)
		}
		told = mark.Highest
	}
	for _, a := range actions {
		if a.Add == nil {
			continue
		}
		f := s.files[a.Add.Path]
		if a.Add.BaseRowID == nil || a.Add.CommitVersion == nil {
			s.w.fault("I9: version %s%d adds %s without row ids", s.name, version, a.Add.Path)
			continue
		}
		f.ids = rowIDs{*a.Add.BaseRowID, *a.Add.CommitVersion}
		if f.ids.first <= s.rowMark || f.ids.version != version {
			s.w.fault("I9: version %s%d adds %s with the row ids of version %d from %d on, and those up to %d were given before",
				s.name, version, a.Add.Path, f.ids.version, f.ids.first, s.rowMark)
		}
		s.rowMark = f.ids.first + int64(len(f.rows)) - 1
	}
	if told != s.rowMark {
		s.w.fault("I9: version %s%d gives row ids up to %d, and tells %d", s.name, version, s.rowMark, told)
	}
}

// giveRowIDs is what another program says of the row ids of the one file that it adds as the next version.
func (s *shelf) giveRowIDs(add map[string]any, rows int64) (more []any) {
	if !s.w.tracksRows() {
		return nil
	}
	add["baseRowId"], add["defaultRowCommitVersion"] = s.rowMark+1, s.version+1
	mark, err := json.Marshal(map[string]int64{"rowIdHighWaterMark": s.rowMark + rows})
	s.w.check(err)
	return []any{map[string]any{"domainMetadata": map[string]any{"domain": rowTrackingDomain, "configuration": string(mark), "removed": false}}}
}
