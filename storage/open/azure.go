package open

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"kafkadelta/storage"
	"kafkadelta/storage/azure"
)

// azureForms are what openAzure understands. The blob endpoint is used whichever one a URI names.
const azureForms = "abfss://container@account.dfs.core.windows.net/path, az://container/path, https://account.blob.core.windows.net/container/path " +
	"or, for Azurite, http://127.0.0.1:10000/devstoreaccount1/container/path"

func openAzure(scheme, uri string, o Options) (storage.Store, error) {
	l, err := azureLocation(scheme, uri)
	if err != nil {
		return nil, err
	}
	container := l
	container.Folder = ""
	return o.Clients.in(fmt.Sprintf("azure:%+v", container), l.Folder, func() (below, error) {
		return azure.New(container, o.Config.Azure, azure.Options{Getenv: o.getenv(), Observe: o.Observe, Parts: o.Parts})
	})
}

// azureLocation reads container@host/path (Hadoop), container/path (az, fsspec) and the URLs of the service itself.
func azureLocation(scheme, uri string) (azure.Location, error) {
	var l azure.Location
	u, err := url.Parse(uri)
	if err != nil {
		return l, errors.New("it is not a valid URI: percent-encode special characters (% as %25); supported are " + azureForms)
	}
	password, hasPassword := "", false
	if u.User != nil {
		password, hasPassword = u.User.Password()
	}
	switch {
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return l, errors.New("a SAS does not stand in the URI, which is shown in logs: put it into AZURE_STORAGE_SAS_TOKEN, or where storage.azure.secret_env or secret_file says, " +
			"and write ? of a path as %3F, # as %23")
	case hasPassword || password != "":
		return l, errors.New("a key does not stand in the URI, which is shown in logs: put it into AZURE_STORAGE_KEY, or where storage.azure.secret_env or secret_file says")
	case u.Host == "":
		return l, fmt.Errorf("it names no host or container: write %s", azureForms)
	}
	path := strings.Trim(u.Path, "/")
	var host string
	switch {
	case scheme == "https" || scheme == "http":
		if u.User != nil {
			return l, errors.New("an https URI has no user: write https://account.blob.core.windows.net/container/path")
		}
		if azure.PathStyle(u.Hostname()) {
			l.Account, path, _ = strings.Cut(path, "/")
			l.Endpoint = scheme + "://" + u.Host + "/" + l.Account
		} else {
			host = u.Host
		}
		l.Container, path, _ = strings.Cut(path, "/")
	case u.User != nil:
		l.Container, host = u.User.Username(), u.Host
	default:
		l.Container = u.Host
	}
	if host != "" {
		if l.Account, l.Domain, err = azureHost(host); err != nil {
			return l, err
		}
	}
	if l.Container == "" || strings.Contains(l.Container, ".") {
		return l, fmt.Errorf("it names no container: write %s", azureForms)
	}
	l.Folder = path
	for part := range strings.SplitSeq(path, "/") {
		if path != "" && (part == "" || strings.HasSuffix(part, ".") || strings.Contains(part, `\`)) {
			return l, fmt.Errorf("its path has a part %q: Azure has no such names, or changes them", part)
		}
	}
	return l, nil
}

// azureHost splits account.dfs.core.windows.net into the account and the blob service's domain. Those of other clouds, of
// private links (account.privatelink.blob...), DNS zones (account.z01.blob.storage.azure.net) and OneLake follow the same form.
func azureHost(host string) (account, domain string, err error) {
	labels := strings.Split(strings.ToLower(host), ".")
	if len(labels) == 1 {
		return labels[0], "", nil // Spark's short form: container@account
	}
	for i, label := range labels[1:] {
		if label == "dfs" {
			labels[i+1] = "blob"
		}
		if label == "dfs" || label == "blob" {
			if strings.HasSuffix(labels[0], "-secondary") {
				return "", "", errors.New("it is the account's secondary endpoint, which can only be read: leave -secondary out")
			}
			return labels[0], strings.Join(labels[1:], "."), nil
		}
	}
	return "", "", fmt.Errorf("host %q is not one of Azure's blob or dfs endpoints: write %s; where the account is reached by another name, set it as storage.azure.endpoint", host, azureForms)
}
