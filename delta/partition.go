package delta

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// nullPartition names the folder of null partition values, as Hive and Spark do.
const nullPartition = "__HIVE_DEFAULT_PARTITION__"

// maxFolderName is the longest file name, in bytes, that common file systems take.
const maxFolderName = 255

const upperHex = "0123456789ABCDEF"

// PartitionValue spells the value of one row of a partition column for add.partitionValues (PROTOCOL.md, "Partition Value
// Serialization"). Timestamps are ISO 8601 in UTC with microseconds, floating-point numbers are as Java prints them,
// which is what Spark writes. The empty string and empty binary are null, because the protocol reads them so. It panics
// on types that cannot be a partition column.
func PartitionValue(arr arrow.Array, row int) (value string, null bool) {
	if arr.IsNull(row) {
		return "", true
	}
	switch a := arr.(type) {
	case *array.String:
		// Arrow's buffers may be reused by the caller: the value must be its own memory.
		value = strings.Clone(a.Value(row))
		return value, value == ""
	case *array.Binary:
		value = string(a.Value(row))
		return value, value == ""
	case *array.Int64:
		return strconv.FormatInt(a.Value(row), 10), false
	case *array.Int32:
		return strconv.FormatInt(int64(a.Value(row)), 10), false
	case *array.Int16:
		return strconv.FormatInt(int64(a.Value(row)), 10), false
	case *array.Int8:
		return strconv.FormatInt(int64(a.Value(row)), 10), false
	case *array.Float64:
		return javaFloat(a.Value(row), 64), false
	case *array.Float32:
		return javaFloat(float64(a.Value(row)), 32), false
	case *array.Boolean:
		return strconv.FormatBool(a.Value(row)), false
	case *array.Decimal128:
		return decimalString(a.Value(row), a.DataType().(*arrow.Decimal128Type).Scale), false
	case *array.Date32:
		return time.Unix(int64(a.Value(row))*86400, 0).UTC().Format("2006-01-02"), false
	case *array.Timestamp:
		t := time.UnixMicro(int64(a.Value(row))).UTC()
		if a.DataType().(*arrow.TimestampType).TimeZone == "" {
			return t.Format("2006-01-02 15:04:05.000000"), false
		}
		return t.Format("2006-01-02T15:04:05.000000Z"), false
	}
	panic(fmt.Sprintf("delta: a column of type %s cannot be a partition column", arr.DataType()))
}

// javaFloat prints like Java's Double.toString and Float.toString: decimal notation in [1e-3, 1e7), else scientific,
// always with a fraction. Negative zero becomes zero, as in Spark, so that both land in one partition.
func javaFloat(v float64, bits int) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	case v == 0:
		return "0.0"
	}
	if abs := math.Abs(v); abs >= 1e-3 && abs < 1e7 {
		s := strconv.FormatFloat(v, 'f', -1, bits)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', -1, bits), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	sign := ""
	if exponent[0] == '-' {
		sign = "-"
	}
	return mantissa + "E" + sign + strings.TrimLeft(exponent[1:], "0")
}

// decimalString prints all digits of the scale, trailing zeros too, and never an exponent.
func decimalString(v decimal128.Num, scale int32) string {
	digits := v.BigInt().String()
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	if scale <= 0 {
		return sign + digits
	}
	if pad := int(scale) + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	point := len(digits) - int(scale)
	return sign + digits[:point] + "." + digits[point:]
}

// PartitionFolder names the folder on disk for one partition value, without slashes, such as "date=2024-01-31". Name and
// value are escaped as Hive and Spark do (EscapePathName). The folder is a convention, readers take the value from the
// log only (PROTOCOL.md, "Data Files"); so a name that no file system takes is cut and ends in a hash of the whole. For
// add.path the name must still go through EncodePath.
func PartitionFolder(column, value string, null bool) string {
	if null || value == "" {
		value = nullPartition
	} else {
		value = EscapePathName(value)
	}
	folder := EscapePathName(column) + "=" + value
	if len(folder) <= maxFolderName {
		return folder
	}
	sum := sha256.Sum256([]byte(folder))
	tail := "~" + hex.EncodeToString(sum[:8])
	cut := maxFolderName - len(tail)
	for !utf8.RuneStart(folder[cut]) {
		cut--
	}
	return folder[:cut] + tail
}

// EscapePathName escapes one path segment as Hive and Spark's ExternalCatalogUtils.escapePathName do: control characters
// and "#%'*/:=?\{[]^ become %XX; spaces and what is not ASCII stay. NUL, which Spark forgets, is escaped too.
func EscapePathName(s string) string {
	n := 0
	for i := range len(s) {
		if hiveEscapes(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; hiveEscapes(c) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func hiveEscapes(c byte) bool {
	switch c {
	case '"', '#', '%', '\'', '*', '/', ':', '=', '?', '\\', 0x7f, '{', '[', ']', '^':
		return true
	case ' ', '<', '>', '|':
		return runtime.GOOS == "windows"
	}
	return c < 0x20
}

// UnescapePathName undoes EscapePathName. A '%' that does not start two hex digits stands for itself, as in Spark.
func UnescapePathName(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(v))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// EncodePath turns the name of an object, relative to the table's folder and '/'-separated, into an add.path, which is a
// URI reference (PROTOCOL.md, "Add File and Remove File"). A '%' that Hive's escaping put on disk becomes %25. The text is
// exactly that of Hadoop's Path.toUri, since Spark's VACUUM compares paths as text and deletes the data files whose paths it
// would have spelled in another way: java.net.URI keeps what it calls "other" characters, those beyond ASCII that are
// neither control characters nor spaces.
func EncodePath(name string) string {
	b := make([]byte, 0, len(name))
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		if !uriEscapes(r) && (r != utf8.RuneError || size > 1) {
			b = append(b, name[i:i+size]...)
		} else {
			for _, c := range []byte(name[i : i+size]) {
				b = append(b, '%', upperHex[c>>4], upperHex[c&15])
			}
		}
		i += size
	}
	return string(b)
}

func uriEscapes(r rune) bool {
	switch r {
	case '"', '#', '%', '<', '>', '?', '[', '\\', ']', '^', '`', '{', '|', '}':
		return true
	}
	return unicode.IsControl(r) || unicode.In(r, unicode.Z)
}

// DecodePath turns an add.path or remove.path back into the name of an object relative to the table's folder. An absolute
// URI stays one, decoded.
func DecodePath(path string) (string, error) {
	name, err := url.PathUnescape(path)
	if err != nil {
		return "", fmt.Errorf("decoding the file path %q: %w", path, err)
	}
	return name, nil
}

// fileHash identifies a logical file: path and deletion vector (PROTOCOL.md, "Action Reconciliation"). Paths are compared
// decoded, because writers differ in what they percent-encode. It is a cryptographic hash, cut: what writers put into a log
// can't make two files one.
type fileHash [16]byte

func hashOf(path string, dv *DeletionVector) fileHash {
	if strings.Contains(path, "%") {
		if name, err := url.PathUnescape(path); err == nil {
			path = name
		}
	}
	sum := sha256.Sum256([]byte(path + "\x00" + dv.uniqueID()))
	return fileHash(sum[:16])
}
