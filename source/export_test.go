package source

// EmptyBatches for tests.
var EmptyBatches = emptyBatches
