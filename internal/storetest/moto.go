package storetest

import (
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
func Moto(t testing.TB) S3 {
	t.Helper()
	return newS3(t, start(t, imageOf("MOTO_IMAGE", MotoImage),
		testcontainers.WithExposedPorts("5000/tcp"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/moto-api/data.json").WithPort("5000/tcp")),
	))
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
