package s3

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"kafkadelta/storage/remote"
)

// meaning is what a service's error code says where the status code alone says something else, or where there is more to do
// than it tells.
type meaning struct {
	outcome remote.Outcome
	hint    string
}

// codes are those of S3, STS and DynamoDB. A missing bucket or table counts as denied and not as a missing object: it is
// the configuration's fault, and a log in it is not just empty.
var codes = map[string]meaning{
	"NoSuchKey":                              {remote.NotFound, ""},
	"NotFound":                               {remote.NotFound, ""},
	"NoSuchUpload":                           {remote.NotFound, "the multipart upload is gone: was it removed by a lifecycle rule?"},
	"NoSuchBucket":                           {remote.Denied, "create the bucket, or correct the table's URI"},
	"PreconditionFailed":                     {remote.Exists, ""},
	"ConditionalCheckFailedException":        {remote.Exists, ""},
	"ConditionalRequestConflict":             {remote.Throttled, ""}, // two conditional puts at once: neither won (409)
	"OperationAborted":                       {remote.Throttled, ""},
	"SlowDown":                               {remote.Throttled, ""},
	"RequestLimitExceeded":                   {remote.Throttled, ""},
	"Throttling":                             {remote.Throttled, ""},
	"ThrottlingException":                    {remote.Throttled, ""},
	"ProvisionedThroughputExceededException": {remote.Throttled, "raise the DynamoDB table's capacity, or make it on-demand"},
	"RequestTimeout":                         {remote.Broken, ""}, // 400: the body came too slowly
	"IncompleteBody":                         {remote.Broken, ""}, // 400, as the next two: the body was damaged on its way
	"BadDigest":                              {remote.Broken, ""},
	"XAmzContentSHA256Mismatch":              {remote.Broken, ""},
	"InternalError":                          {remote.Broken, ""}, // 200 or 500
	"InternalServerError":                    {remote.Broken, ""},
	"InvalidAccessKeyId":                     {remote.Denied, "the access key is unknown to this endpoint: is it the right key, and the right endpoint?"},
	"SignatureDoesNotMatch":                  {remote.Denied, "the secret access key does not belong to the access key"},
	"ExpiredToken":                           {remote.Denied, "the temporary credentials are expired: get new ones, or name a role that renews them"},
	"ExpiredTokenException":                  {remote.Denied, "the temporary credentials are expired: get new ones, or name a role that renews them"},
	"InvalidToken":                           {remote.Denied, "the session token is wrong: is AWS_SESSION_TOKEN left over from other credentials?"},
	"InvalidIdentityToken":                   {remote.Denied, "the web identity token is not accepted: does the account know its OpenID Connect provider?"},
	"UnrecognizedClientException":            {remote.Denied, "the access key or session token is unknown to this endpoint"},
	"InvalidClientTokenId":                   {remote.Denied, "the access key is unknown to AWS"},
	"InvalidSignatureException":              {remote.Denied, "the secret access key does not belong to the access key, or this machine's clock is wrong"},
	"RequestTimeTooSkewed":                   {remote.Denied, "this machine's clock is wrong: set it (NTP)"},
	"PermanentRedirect":                      {remote.Denied, regionHint},
	"AuthorizationHeaderMalformed":           {remote.Denied, regionHint},
	"IllegalLocationConstraintException":     {remote.Denied, regionHint},
	"ResourceNotFoundException":              {remote.Denied, "there is no such DynamoDB table: correct storage.s3.dynamodb (table, region), or make it as docs/storage.md says"},
	"AccessDeniedException":                  {remote.Denied, ""}, // DynamoDB's, 400
	"KMS.NotFoundException":                  {remote.Denied, kmsHint},
	"KMS.DisabledException":                  {remote.Denied, kmsHint},
	"KMS.KMSInvalidStateException":           {remote.Denied, kmsHint},
	"NotImplemented":                         {remote.Invalid, "the store does not know this request"},
}

const regionHint = "the bucket is in another region: correct storage.s3.region (or AWS_REGION), or leave it out to have the bucket asked"

const kmsHint = "the KMS key is not there, or not usable: correct storage.s3.kms_key_id, or the key that the bucket names as its default"

// permissions are what an operation of the API asks of a policy.
var permissions = map[string]string{
	"GetObject":               "s3:GetObject on the objects and s3:ListBucket on the bucket (without which a missing object looks forbidden)",
	"HeadObject":              "s3:GetObject on the objects and s3:ListBucket on the bucket (without which a missing object looks forbidden)",
	"PutObject":               "s3:PutObject on the objects; with a KMS key kms:GenerateDataKey on it",
	"CreateMultipartUpload":   "s3:PutObject on the objects; with a KMS key kms:GenerateDataKey and kms:Decrypt on it",
	"UploadPart":              "s3:PutObject on the objects; with a KMS key kms:GenerateDataKey and kms:Decrypt on it",
	"CompleteMultipartUpload": "s3:PutObject on the objects; with a KMS key kms:GenerateDataKey and kms:Decrypt on it",
	"AbortMultipartUpload":    "s3:AbortMultipartUpload on the objects",
	"DeleteObject":            "s3:DeleteObject on the objects",
	"ListObjectsV2":           "s3:ListBucket on the bucket",
	"Query":                   "dynamodb:Query on the log store's table",
	"GetItem":                 "dynamodb:GetItem on the log store's table",
	"PutItem":                 "dynamodb:PutItem on the log store's table",
}

const noCredentials = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, storage.s3.role_arn, or run where a role is given (EKS, ECS, EC2)"

// explain says what an error of the SDK means.
func explain(err error) remote.Failure {
	if e, ok := errors.AsType[*credentialsError](err); ok {
		return e.explain()
	}
	var status int
	response, answered := errors.AsType[*smithyhttp.ResponseError](err)
	if answered {
		status = response.HTTPStatusCode()
	}
	api, coded := errors.AsType[smithy.APIError](err)
	// Of an answer that breaks off, nobody knows what it would have said: a 404 without its code is no word on the object.
	brokenOff := errors.Is(err, io.ErrUnexpectedEOF) || isA[net.Error](err)
	if !answered && !coded || brokenOff {
		return remote.Failure{Outcome: remote.NoAnswer, Hint: connectionHint(err)}
	}
	f := remote.Failure{Outcome: remote.OutcomeOf(status)}
	if f.Outcome == remote.Done { // an error in the body of a 200, or a redirect
		f.Outcome = remote.Broken
	}
	if coded {
		f.Code = api.ErrorCode()
	}
	switch m, ok := codes[f.Code]; {
	case ok && (f.Code != "NotFound" || operation(err) == "HeadObject"): // elsewhere the SDK makes it up from the status
		f.Outcome, f.Hint = m.outcome, m.hint
	case f.Outcome == remote.NotFound: // of an object it would have said so
		f.Outcome, f.Hint = remote.Denied, "the answer is not about the object: is this an endpoint of S3, and is the access key known there?"
	}
	switch region := bucketRegion(err); {
	case status == http.StatusMovedPermanently, status == http.StatusTemporaryRedirect, f.Hint == regionHint:
		f.Outcome, f.Hint = remote.Denied, regionHint
		if region != "" {
			f.Hint = "the bucket is in " + region + ": " + strings.TrimPrefix(regionHint, "the bucket is in another region: ")
		}
	case f.Outcome == remote.Denied && f.Hint == "": // nothing special: a permission is missing
		f.Hint = permissionHint(err)
	}
	return f
}

// operation is the name of the API's operation that failed.
func operation(err error) string {
	if op, ok := errors.AsType[*smithy.OperationError](err); ok {
		return op.Operation()
	}
	return ""
}

func permissionHint(err error) string {
	if permission := permissions[operation(err)]; permission != "" {
		return "allow these credentials " + permission
	}
	return "allow these credentials to list, read, write and delete in the table's folder"
}

// bucketRegion is where S3 says the bucket is, "" if it doesn't.
func bucketRegion(err error) string {
	e, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || e.Response == nil || e.Response.Response == nil {
		return ""
	}
	switch e.HTTPStatusCode() {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest:
		return e.Response.Header.Get("X-Amz-Bucket-Region")
	}
	return ""
}

func connectionHint(err error) string {
	switch e := err; {
	case isA[*net.DNSError](e):
		return "does the endpoint exist, and is the region spelled right?"
	case isA[*tls.CertificateVerificationError](e), isA[x509.UnknownAuthorityError](e):
		return "set storage.s3.ca_file (or AWS_CA_BUNDLE) to the authority that signed the endpoint's certificate"
	}
	return ""
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// explain tells credentials that are not there or not accepted, which waiting does not mend, from a source that does not
// answer. A machine that never had any is taken for the former.
func (e *credentialsError) explain() remote.Failure {
	api, refused := errors.AsType[smithy.APIError](e.err)
	if !refused {
		f := remote.Failure{Outcome: remote.NoAnswer, Hint: noCredentials}
		if !e.worked && (!isA[net.Error](e.err) || strings.Contains(e.err.Error(), "no EC2 IMDS role found")) {
			f.Outcome = remote.Denied
		}
		return f
	}
	f := explain(e.err)
	if !f.Outcome.Temporary() {
		f.Outcome = remote.Denied
	}
	if f.Code = api.ErrorCode(); f.Code == "AccessDenied" {
		f.Hint = "the role's trust policy must let these credentials assume it (sts:AssumeRole or sts:AssumeRoleWithWebIdentity)"
	}
	return f
}
