package kafkadelta;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Iterator;
import java.util.UUID;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

/**
 * A log store for a local disk that several processes write: a commit is put under its name by a hard link, which fails where
 * the name is taken. Delta's own store looks whether the name is taken and then renames over it, so that a commit that another
 * process makes in between is lost (docs/operations.md).
 */
public class LinkLogStore extends io.delta.storage.HDFSLogStore {
	public LinkLogStore(Configuration conf) {
		super(conf);
	}

	public void write(Path path, Iterator actions, Boolean overwrite, Configuration conf) throws IOException {
		if (overwrite.booleanValue()) {
			super.write(path, actions, overwrite, conf);
			return;
		}
		StringBuilder text = new StringBuilder();
		while (actions.hasNext()) {
			text.append((String) actions.next()).append('\n');
		}
		java.nio.file.Path to = Paths.get(path.toUri().getPath(), new String[0]);
		java.nio.file.Path temporary = to.resolveSibling("." + to.getFileName() + "." + UUID.randomUUID() + ".tmp");
		Files.write(temporary, text.toString().getBytes(StandardCharsets.UTF_8), new java.nio.file.OpenOption[0]);
		try {
			Files.createLink(to, temporary);
		} finally {
			Files.delete(temporary);
		}
	}
}
