package pipeline_test

import (
	"testing"
)

func TestRunToTheEnd(t *testing.T) {
	scenario(t, 3, func(w *world) {
		w.produceAll(3, 50)
		w.untilEnd()
		w.exactlyOnce()
		w.produceAll(3, 10)
		w.untilEnd()
		w.exactlyOnce()
	})
}
