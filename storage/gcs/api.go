package gcs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// api sends the requests of Cloud Storage's JSON interface, one for each call, for one bucket (cloud.google.com/storage/docs/json_api/v1).
type api struct {
	http   *http.Client // signs requests
	server string       // scheme and host
	bucket string
	payer  string // the project that pays, "" for the bucket's own
}

// attributes are what is asked about an object.
type attributes struct {
	Name     string            `json:"name"`
	Size     int64             `json:"size,string"`
	Updated  time.Time         `json:"updated"`
	Metadata map[string]string `json:"metadata"`
}

// fields are the attributes, as the interface asks for them.
const fields = "name,size,updated,metadata"

const contentType = "application/octet-stream"

// castagnoli is the checksum that the service compares with what arrives.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksumText(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// request is one for the bucket's objects, or for one of them. before is "" or /upload.
func (a *api) request(ctx context.Context, method, before, name string, query url.Values, body io.Reader) (*http.Request, error) {
	address := a.server + before + "/storage/v1/b/" + url.PathEscape(a.bucket) + "/o"
	if name != "" {
		address += "/" + url.PathEscape(name)
	}
	if a.payer != "" {
		query.Set("userProject", a.payer)
	}
	req, err := http.NewRequestWithContext(ctx, method, address+"?"+query.Encode(), body)
	if err != nil {
		return nil, short(err)
	}
	return req, nil
}

// send returns a good answer, whose body the caller closes.
func (a *api) send(req *http.Request) (*http.Response, error) {
	response, err := a.http.Do(req)
	if err != nil {
		return nil, short(err)
	}
	if response.StatusCode >= 300 {
		defer response.Body.Close()
		return nil, refusal(response)
	}
	return response, nil
}

// finish reads what is left of an answer, so that its connection can be used again.
func finish(response *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
}

// answer sends a request and reads the answer's JSON.
func (a *api) answer(req *http.Request, into any) error {
	response, err := a.send(req)
	if err != nil {
		return err
	}
	defer finish(response)
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("reading the service's answer: %w", err)
	}
	return nil
}

// read gives the bytes of an object from offset on, length of them; -1 for all. generation is "" for the newest.
func (a *api) read(ctx context.Context, name string, offset, length int64, generation string) (*http.Response, error) {
	query := url.Values{"alt": {"media"}}
	if generation != "" {
		query.Set("generation", generation)
	}
	req, err := a.request(ctx, http.MethodGet, "", name, query, nil)
	if err != nil {
		return nil, err
	}
	switch {
	case length >= 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	return a.send(req)
}

// attributes asks about an object.
func (a *api) attributes(ctx context.Context, name string) (attributes, error) {
	var of attributes
	req, err := a.request(ctx, http.MethodGet, "", name, url.Values{"fields": {fields}}, nil)
	if err == nil {
		err = a.answer(req, &of)
	}
	return of, err
}

// page is a part of a listing.
type page struct {
	Items []attributes `json:"items"`
	Next  string       `json:"nextPageToken"`
}

// list gives the objects whose names begin with prefix and are not before start, most at a time (0: as many as the service likes).
func (a *api) list(ctx context.Context, prefix, start, token string, most int) (page, error) {
	query := url.Values{"fields": {"items(" + fields + "),nextPageToken"}, "projection": {"noAcl"}, "prefix": {prefix}}
	if start != "" {
		query.Set("startOffset", start)
	}
	if token != "" {
		query.Set("pageToken", token)
	}
	if most > 0 {
		query.Set("maxResults", strconv.Itoa(most))
	}
	var p page
	req, err := a.request(ctx, http.MethodGet, "", "", query, nil)
	if err == nil {
		err = ofBucket(a.answer(req, &p))
	}
	return p, err
}

// remove deletes an object.
func (a *api) remove(ctx context.Context, name string) error {
	req, err := a.request(ctx, http.MethodDelete, "", name, url.Values{}, nil)
	if err != nil {
		return err
	}
	response, err := a.send(req)
	if err == nil {
		finish(response)
	}
	return err
}

// resource is what is told of an object that is written.
type resource struct {
	Name        string            `json:"name"`
	ContentType string            `json:"contentType"`
	CRC32C      string            `json:"crc32c,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// insert writes an object in one request; absent: if there is none of the name.
func (a *api) insert(ctx context.Context, name string, data []byte, metadata map[string]string, absent bool) error {
	about, err := json.Marshal(resource{name, contentType, checksumText(crc32.Checksum(data, castagnoli)), metadata})
	if err != nil {
		return fmt.Errorf("describing the object: %w", err)
	}
	boundary := rand.Text() // in no data but by a chance that nobody lives to see
	head := fmt.Sprintf("--%[1]s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%[2]s\r\n--%[1]s\r\nContent-Type: %[3]s\r\n\r\n", boundary, about, contentType)
	tail := "\r\n--" + boundary + "--\r\n"
	query := url.Values{"uploadType": {"multipart"}, "name": {name}, "fields": {"name"}}
	if absent {
		query.Set("ifGenerationMatch", "0")
	}
	req, err := a.request(ctx, http.MethodPost, "/upload", "", query, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "multipart/related; boundary="+boundary)
	req.ContentLength = int64(len(head) + len(data) + len(tail))
	req.GetBody = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(head), bytes.NewReader(data), strings.NewReader(tail))), nil
	}
	req.Body, _ = req.GetBody()
	response, err := a.send(req)
	if err != nil {
		return ofBucket(err)
	}
	finish(response)
	return nil
}

// begin opens a session of a resumable upload. Its URL lets everybody write who has it.
func (a *api) begin(ctx context.Context, name string) (session string, err error) {
	about, err := json.Marshal(resource{Name: name, ContentType: contentType})
	if err != nil {
		return "", fmt.Errorf("describing the object: %w", err)
	}
	req, err := a.request(ctx, http.MethodPost, "/upload", "", url.Values{"uploadType": {"resumable"}, "name": {name}}, bytes.NewReader(about))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json; charset=UTF-8")
	req.Header.Set("X-Upload-Content-Type", contentType)
	response, err := a.send(req)
	if err != nil {
		return "", ofBucket(err)
	}
	finish(response)
	if session = response.Header.Get("Location"); session == "" {
		return "", fmt.Errorf("the service's answer %s to the beginning of an upload has no address for it", response.Status)
	}
	return session, nil
}

// chunk sends bytes of a session's object from offset on, and tells up to where the service has them. What it has already it passes over. The last
// chunk, which may be empty, completes the object; sum is the checksum of the whole then.
func (a *api) chunk(ctx context.Context, session string, offset int64, data []byte, last bool, sum uint32) (end int64, err error) {
	end = offset + int64(len(data))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, session, bytes.NewReader(data))
	if err != nil {
		return 0, short(err)
	}
	span, total := fmt.Sprintf("%d-%d", offset, end-1), "*"
	if len(data) == 0 {
		span = "*"
	}
	if last {
		total = strconv.FormatInt(end, 10)
		req.Header.Set("X-Goog-Hash", "crc32c="+checksumText(sum))
	}
	req.Header.Set("Content-Range", "bytes "+span+"/"+total)
	req.Header.Set("X-GUploader-No-308", "yes") // 308 has another meaning to HTTP: the answer is 200 with a header
	response, err := a.send(req)
	if e, ok := errors.AsType[*answerError](err); ok && e.code == http.StatusNotFound {
		e.code = http.StatusGone // so it answers where a session has expired
	}
	if err != nil {
		return 0, err
	}
	finish(response)
	if response.Header.Get("X-Http-Status-Code-Override") != "308" {
		return end, nil
	}
	has := response.Header.Get("Range")
	n, err := strconv.ParseInt(strings.TrimPrefix(has, "bytes=0-"), 10, 64)
	if err != nil || n < offset || n >= end || last && n == end-1 {
		return 0, fmt.Errorf("the service has %q of an object after bytes %s", has, span)
	}
	return n + 1, nil
}

const statusCancelled = 499 // how the service says that an upload is cancelled

// cancel ends a session.
func (a *api) cancel(ctx context.Context, session string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, session, http.NoBody)
	if err != nil {
		return short(err)
	}
	response, err := a.http.Do(req)
	if err != nil {
		return short(err)
	}
	defer finish(response)
	switch response.StatusCode {
	case statusCancelled, http.StatusNotFound, http.StatusGone:
		return nil
	}
	if response.StatusCode >= 300 {
		return refusal(response)
	}
	return nil
}
