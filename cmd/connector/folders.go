package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"kafkadelta/storage/open"
)

// keyBytes are what keyText may spell a value with, and keyForm is what it spells.
const keyBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~-"

var keyForm = regexp.MustCompile("^(?:" + nullKey + "|[A-Za-z0-9~-][A-Za-z0-9~._-]*)$")

// valueMark stands for a value in a place. No URI is spelled otherwise for it.
const valueMark = "kafkadeltavalue"

// folder is where a table is, or the tables of a table.uri with values.
type folder struct {
	key    string // of the setting
	uri    string
	pieces []string // of the place, in turn: words of keyBytes, with at most one value in each, and single other bytes
}

// word is a piece of a place.
var word = regexp.MustCompile("[" + regexp.QuoteMeta(keyBytes) + "]+|.")

func (c config) folder(key, uri string) folder {
	return folder{key, uri, word.FindAllString(c.place(routePart.ReplaceAllString(uri, valueMark)), -1)}
}

// folders are those of all tables of a pipeline, its own first.
func (c config) folders() []folder {
	all := []folder{c.folder("table.uri", c.Table.Sink.URI)}
	if c.divided() {
		all = append(all, c.folder("table.catalog", c.tableURI()))
	}
	if c.DeadLetters.URI != "" {
		all = append(all, c.folder("dead_letters.uri", c.DeadLetters.URI))
	}
	return all
}

// places has the folders of pipelines by name, so that they are looked for once.
type places map[string][]folder

func (p places) of(c config) []folder {
	if p[c.Name] == nil {
		p[c.Name] = c.folders()
	}
	return p[c.Name]
}

// overlaps tells whether a table of one may be a table of the other.
func (f folder) overlaps(o folder) bool {
	return slices.EqualFunc(f.pieces, o.pieces, wordsMeet)
}

// holds tells whether a table of the other may be below one of this: a VACUUM of that takes its files, but for those in folders that begin with
// _ or a dot.
func (f folder) holds(o folder) bool {
	n := len(f.pieces)
	if n == 0 || len(o.pieces) < n+2 || f.pieces[0] == "memory" || !slices.EqualFunc(f.pieces, o.pieces[:n], wordsMeet) {
		return false
	}
	below := strings.Join(o.pieces[n:], "")
	return below[0] == '/' && !strings.Contains(below, "/_") && !strings.Contains(below, "/.")
}

// wordsMeet tells whether two pieces are equal for some values. Those that are tried are enough, since a value may be of any length.
func wordsMeet(a, b string) bool {
	before, after, isValue := strings.Cut(a, valueMark)
	otherBefore, otherAfter, otherIsValue := strings.Cut(b, valueMark)
	if !isValue && !otherIsValue {
		return a == b
	}
	longer := func(x, y string) string {
		if len(x) > len(y) {
			return x
		}
		return y
	}
	for _, text := range []string{a, b, before + nullKey + after, otherBefore + nullKey + otherAfter, longer(before, otherBefore) + "x" + longer(after, otherAfter)} {
		if takes(a, text) && takes(b, text) {
			return true
		}
	}
	return false
}

// takes tells whether a piece is the text for some value.
func takes(piece, text string) bool {
	before, after, isValue := strings.Cut(piece, valueMark)
	if !isValue {
		return piece == text
	}
	value, ok := strings.CutPrefix(text, before)
	if !ok {
		return false
	}
	value, ok = strings.CutSuffix(value, after)
	return ok && keyForm.MatchString(value)
}

// checkFolders makes sure that no two combinations of values are one folder, and that none is that of the catalog or the dead letters, or holds it.
func (c config) checkFolders() error {
	uri := c.Table.Sink.URI
	var errs []error
	at := routePart.FindAllStringIndex(uri, -1)
	for i := range at[1:] {
		if between := uri[at[i][1]:at[i+1][0]]; strings.Trim(between, keyBytes) == "" {
			errs = append(errs, fmt.Errorf("table.uri is %q: between two values stands %q, which may be part of a value, so that two of them could be one table: put a slash, or an = between", open.Redact(uri), between))
		}
	}
	all := c.folders()
	for i, f := range all {
		for j, o := range all {
			switch {
			case i == 0 && j > 0 && f.overlaps(o):
				errs = append(errs, fmt.Errorf("%s is %q, which is also the table of some value by table.uri: name a folder that begins with _", o.key, open.Redact(o.uri)))
			case i != j && f.holds(o):
				errs = append(errs, fmt.Errorf("%s is %q, which may be in the folder of %s, %q: %s", o.key, open.Redact(o.uri), f.key, open.Redact(f.uri), holdsRemedy))
			}
		}
	}
	return errors.Join(errs...)
}

const holdsRemedy = "a VACUUM of that table would take its files; put it beside that, or into a folder that begins with _"

// clashOfFolders tells why tables of two pipelines can't be where they are, where one of them has many. twice says that rows of the two in one table
// would be the same ones.
func clashOfFolders(a, b config, at places, twice bool) error {
	if !a.divided() && !b.divided() {
		return nil
	}
	ofA, ofB := at.of(a), at.of(b)
	if a.divided() && b.divided() && slices.Equal(ofA[1].pieces, ofB[1].pieces) && !slices.Equal(ofA[0].pieces, ofB[0].pieces) {
		return fmt.Errorf("the pipelines %q and %q have one catalog, %s, which knows tables by their values alone, and %s and %s are different places for the same values: give them the same table.uri, or one of them another table.catalog",
			a.Name, b.Name, open.Redact(ofA[1].uri), open.Redact(ofA[0].uri), open.Redact(ofB[0].uri))
	}
	for i, f := range ofA {
		for j, o := range ofB {
			switch own := i == 0 && j == 0; {
			case own && !twice, i > 0 && j > 0: // tables may be shared by streams
			case f.overlaps(o) && own:
				return fmt.Errorf("the pipelines %q and %q may both bring the topic %s into a table, by %s and %s: it would have each message twice; give each other tables, or a table.filter of its own",
					a.Name, b.Name, b.Source.Kafka.Topic, open.Redact(f.uri), open.Redact(o.uri))
			case f.overlaps(o):
				return fmt.Errorf("%s of the pipeline %q, %s, may be the same table as %s of %q, %s: give each a folder of its own", f.key, a.Name, open.Redact(f.uri), o.key, b.Name, open.Redact(o.uri))
			}
			switch {
			case f.holds(o):
				return fmt.Errorf("%s of the pipeline %q, %s, may be in the folder of %s of %q, %s: %s", o.key, b.Name, open.Redact(o.uri), f.key, a.Name, open.Redact(f.uri), holdsRemedy)
			case o.holds(f):
				return fmt.Errorf("%s of the pipeline %q, %s, may be in the folder of %s of %q, %s: %s", f.key, a.Name, open.Redact(f.uri), o.key, b.Name, open.Redact(o.uri), holdsRemedy)
			}
		}
	}
	return nil
}
