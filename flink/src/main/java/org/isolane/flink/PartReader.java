package org.isolane.flink;

import java.io.Closeable;
import java.io.IOException;
import org.apache.flink.core.fs.FSDataInputStream;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;
import org.apache.flink.formats.parquet.ParquetInputFile;
import org.apache.parquet.column.page.PageReadStore;
import org.apache.parquet.example.data.Group;
import org.apache.parquet.example.data.simple.convert.GroupRecordConverter;
import org.apache.parquet.hadoop.ParquetFileReader;
import org.apache.parquet.io.ColumnIOFactory;
import org.apache.parquet.io.RecordReader;
import org.apache.parquet.schema.MessageType;

/**
 * Reads a file that is put together with others: what it says of its rows, and each of them as it lies there. They do not become
 * rows of Flink's on the way: its reader fails on times before 1970, and that would stop a job for good.
 *
 * <p>Limits: one row group of the file is in memory.
 */
final class PartReader implements Closeable {
    /** What Flink begins the names of files with that are still to be put together. */
    private static final String HIDDEN = ".uncompacted-";

    private final ParquetFileReader file;
    private final Part part;
    private RecordReader<Group> rows;
    private long rowsLeft;

    private PartReader(ParquetFileReader file, String name) {
        this.file = file;
        part = Part.of(name, file.getRecordCount(), file.getFileMetaData().getKeyValueMetaData());
    }

    /**
     * Opens a file.
     *
     * @throws IOException if it is no file of this format
     */
    static PartReader open(Path path) throws IOException {
        FileSystem files = path.getFileSystem();
        long length = files.getFileStatus(path).getLen();
        FSDataInputStream bytes = files.open(path);
        try {
            String name = path.getName();
            ParquetFileReader file = ParquetFileReader.open(new ParquetInputFile(bytes, length));
            return new PartReader(file, name.startsWith(HIDDEN) ? name.substring(HIDDEN.length()) : name);
        } catch (RuntimeException error) {
            bytes.close();
            throw new IOException(path + " cannot be put together with others: " + error.getMessage(), error);
        }
    }

    /** What it says of its rows. */
    Part part() {
        return part;
    }

    /** The next row, or null. */
    Group next() throws IOException {
        while (rowsLeft == 0) {
            PageReadStore pages = file.readNextRowGroup();
            if (pages == null) {
                return null;
            }
            MessageType schema = file.getFileMetaData().getSchema();
            rows = new ColumnIOFactory().getColumnIO(schema).getRecordReader(pages, new GroupRecordConverter(schema));
            rowsLeft = pages.getRowCount();
        }
        rowsLeft--;
        return rows.read();
    }

    @Override
    public void close() throws IOException {
        file.close();
    }
}
