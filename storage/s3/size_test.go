package s3

import (
	"testing"

	"kafkadelta/storage/remote"
)

// TestPartsFitTheLargestObject: 10,000 parts hold 5 TiB, none is larger than S3 takes, and the first thousand are equal.
func TestPartsFitTheLargestObject(t *testing.T) {
	for first, want := range map[int]int{leastPart: 48 << 40 / 10, remote.DefaultPart: 5 << 40} {
		total := 0
		for n := 1; n <= 10000; n++ {
			size := partSize(first, n)
			if size > 5<<30 || n <= 1000 && size != first || size < 5<<20 {
				t.Fatalf("part %d has %d bytes", n, size)
			}
			total += size
		}
		if total < want {
			t.Errorf("10,000 parts from %d on hold %d bytes, want %d", first, total, want)
		}
	}
}
