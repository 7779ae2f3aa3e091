package storetest

import (
	"testing"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// VersitygwImage is the image of the Versity S3 gateway. VERSITYGW_IMAGE names another one.
const VersitygwImage = "versity/versitygw:latest"

// Versitygw returns a new bucket of the gateway, over a folder, that the tests of this process share.
func Versitygw(t testing.TB) S3 {
	t.Helper()
	return newS3(t, start(t, imageOf("VERSITYGW_IMAGE", VersitygwImage),
		testcontainers.WithExposedPorts("7070/tcp"),
		testcontainers.WithEnv(map[string]string{"ROOT_ACCESS_KEY": s3Key, "ROOT_SECRET_KEY": s3Secret}),
		testcontainers.WithTmpfs(map[string]string{"/objects": "rw", "/sidecar": "rw"}),
		testcontainers.WithCmd("--port", ":7070", "posix", "--sidecar", "/sidecar", "/objects"),
		testcontainers.WithWaitStrategy(wait.ForListeningPort("7070/tcp")),
	))
}
