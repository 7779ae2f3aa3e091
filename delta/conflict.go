package delta

import (
	"slices"
	"strings"
)

// Touches reports whether the commit has a txn for the app id, whatever its version (exactly-once rule C1a). Comparing
// versions would not do: after a rewind an old unit would fit again. Removes never conflict with an append.
func (c *Commit) Touches(appID string) bool {
	if c.touched == nil {
		c.touched = make(map[string]struct{}, len(c.Txns))
		for _, t := range c.Txns {
			c.touched[t.AppID] = struct{}{}
		}
	}
	_, ok := c.touched[appID]
	return ok
}

// ChangesTable reports whether the commit has a metaData or protocol action, or sets the clustering columns, which files
// must have statistics of: what was prepared on the version before must be validated anew (rule C1b).
func (c *Commit) ChangesTable() bool {
	return c.Metadata != nil || c.Protocol != nil || slices.ContainsFunc(c.Domains, func(d DomainMetadata) bool { return d.Domain == clusteringDomain })
}

// Replaces reports whether the commit rolled the rows back or put another table in this one's place: RESTORE, REPLACE
// TABLE, CREATE OR REPLACE TABLE, CLONE, or another metadata id than that of the table which was followed, where files went with it (rule C1c). Its
// rows are then no longer those that the table's txns speak of. An id alone says nothing: older versions of delta-rs made a new one with a new schema, and
// kept all rows.
func (c *Commit) Replaces() bool {
	if c.Metadata != nil && c.tableID != "" && c.Metadata.ID != c.tableID && (c.Removed.Files > 0 || c.unsized) {
		return true
	}
	if c.Info == nil {
		return false
	}
	// Not every REPLACE: Spark's "REPLACE COLUMNS" alters the schema and keeps the rows.
	op := strings.ToUpper(strings.TrimSpace(c.Info.Operation))
	for _, prefix := range []string{"RESTORE", "REPLACE TABLE", "CREATE OR REPLACE", "CLONE"} {
		if strings.HasPrefix(op, prefix) {
			return true
		}
	}
	return false
}
