package s3

import "testing"

// TestPartsFitTheLargestObject: 10,000 parts hold 5 TiB, none is larger than S3 takes, and the first thousand are equal.
func TestPartsFitTheLargestObject(t *testing.T) {
	total := 0
	for n := 1; n <= 10000; n++ {
		size := partSize(n)
		if size > 5<<30 || n <= 1000 && size != partSize(1) || size < 5<<20 {
			t.Fatalf("part %d has %d bytes", n, size)
		}
		total += size
	}
	if total < 5<<40 {
		t.Errorf("10,000 parts hold %d bytes, want 5 TiB", total)
	}
}
