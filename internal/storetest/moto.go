package storetest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// MotoImage is the image of moto. MOTO_IMAGE names another one.
const MotoImage = "motoserver/moto:5.2.5"

// Moto returns a new bucket of the moto that the tests of this process share. DynamoDB and STS are at the same endpoint.
//
// Its threads look at a condition and act on it in two steps, so that two conditional writes can both succeed. What S3 and
// DynamoDB promise there is kept by a proxy in this process, which lets one conditional write in at a time.
func Moto(t testing.TB) S3 {
	t.Helper()
	return newS3(t, oneAtATime(start(t, imageOf("MOTO_IMAGE", MotoImage),
		testcontainers.WithExposedPorts("5000/tcp"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/moto-api/data.json").WithPort("5000/tcp")),
	)))
}

var motoProxy struct {
	once    sync.Once
	address string
}

// oneAtATime returns the address of a proxy in front of moto, for as long as this process lives.
func oneAtATime(address string) string {
	motoProxy.once.Do(func() {
		forward := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: address})
				r.Out.Host = r.In.Host // it is signed
			},
			ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // no answer is no answer
		}
		var conditional sync.Mutex
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" || r.Header.Get("X-Amz-Target") != "" {
				body, err := io.ReadAll(r.Body) // before the lock: a client may be slow
				if err != nil {
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				conditional.Lock()
				defer conditional.Unlock()
			}
			forward.ServeHTTP(w, r)
		}))
		motoProxy.address = server.Listener.Addr().String()
	})
	return motoProxy.address
}

// LogTable makes a DynamoDB table as Delta's S3DynamoDBLogStore does, and returns its name and a client.
func (s S3) LogTable(t testing.TB) (string, *dynamodb.Client) {
	t.Helper()
	client := dynamodb.New(dynamodb.Options{Region: s.Region, BaseEndpoint: &s.Endpoint, Credentials: s.credentials()})
	name := unique("log")
	_, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("tablePath"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("fileName"), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("tablePath"), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String("fileName"), KeyType: types.KeyTypeRange},
		},
	})
	if err != nil {
		t.Fatalf("making DynamoDB table %s: %v", name, err)
	}
	return name, client
}
