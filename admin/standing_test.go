package admin_test

import (
	"fmt"
	"testing"

	"kafkadelta/admin"
)

// TestStandingAfterARestore: a RESTORE to before a rewind takes back the generation that it began. What that has found to be a dead letter may be a row again,
// and what the one before has found is none any more.
func TestStandingAfterARestore(t *testing.T) {
	type letter struct {
		generation, offset int64
	}
	before := map[letter]bool{{0, 3}: true, {0, 7}: false, {1, 7}: true, {1, 25}: true}
	restored := map[letter]bool{{0, 3}: true, {0, 7}: true, {0, 19}: true, {1, 7}: false, {1, 19}: false, {1, 25}: false, {2, 25}: true}
	unknown := map[letter]bool{{0, 3}: false, {0, 7}: false, {1, 7}: false, {1, 25}: false, {2, 25}: true}
	for name, tt := range map[string]struct {
		to    string // "" for no RESTORE
		clean bool   // the log up to the RESTORE
		want  map[letter]bool
	}{
		"no RESTORE":                             {"", false, before},
		"to before the rewind":                   {`{"version":2}`, false, restored},
		"spelled as a text":                      {`{"version":"2"}`, false, restored},
		"to behind the rewind":                   {`{"version":4}`, false, map[letter]bool{{0, 3}: true, {0, 7}: false, {1, 7}: true, {1, 25}: false, {2, 25}: true}},
		"it does not say where it went back to":  {`{}`, false, unknown},
		"what it went back to is not in the log": {`{"version":2}`, true, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, setup{})
			f.commit(take{0, 0, 20, nil, 0}) // version 2
			f.rewind(rewinding(map[int32]int64{0: 5}))
			f.commit(take{0, 5, 30, nil, 0})
			if tt.to != "" {
				version := f.foreign("RESTORE", removeOf(f.filesOf(4)[0], true))
				f.edit(version, `"operation":"RESTORE"`, fmt.Sprintf(`"operation":"RESTORE","operationParameters":%s`, tt.to))
				_, err := f.plan(rewinding(map[int32]int64{0: 20, 1: 0})).Commit(t.Context())
				f.check(err)
				if tt.clean {
					f.cleanBefore(version)
				}
			}
			s, err := admin.StandingOf(t.Context(), f.store, stream, false)
			f.check(err)
			for l, want := range tt.want {
				if got := s.Has(l.generation, 0, l.offset); got != want {
					t.Errorf("a dead letter of generation %d at offset %d stands: %t, want %t", l.generation, l.offset, got, want)
				}
			}
			s, err = admin.StandingOf(t.Context(), f.store, stream, true)
			f.check(err)
			if s.Has(0, 0, 5) {
				t.Error("a RESTORE of a catalog takes no rows back, and a dead letter stands that was read again")
			}
		})
	}
}
