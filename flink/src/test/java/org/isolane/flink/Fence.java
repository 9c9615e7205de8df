package org.isolane.flink;

import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.common.errors.ConcurrentTransactionsException;

/**
 * Ends the transactions of a cluster whose ids begin like this, and shuts their producers out: for {@code sink.sh}, what a broker
 * does with a job that is away for too long. Prints how many.
 */
final class Fence {
    private static final int WAIT_SECONDS = 60;

    private Fence() {}

    public static void main(String[] arguments) throws Exception {
        Properties kafka = new Properties();
        kafka.setProperty("bootstrap.servers", arguments[0]);
        try (Admin admin = Admin.create(kafka)) {
            List<String> ids = admin.listTransactions().all().get(WAIT_SECONDS, TimeUnit.SECONDS).stream()
                    .map(TransactionListing::transactionalId)
                    .filter(id -> id.startsWith(arguments[1]))
                    .toList();
            for (String id : ids) {
                fence(admin, id);
            }
            System.out.println(ids.size());
        }
    }

    private static void fence(Admin admin, String id) throws Exception {
        try {
            admin.fenceProducers(List.of(id)).all().get(WAIT_SECONDS, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            // So answers a broker that is ending an open transaction for this very request.
            if (!(error.getCause() instanceof ConcurrentTransactionsException)) {
                throw error;
            }
        }
    }
}
