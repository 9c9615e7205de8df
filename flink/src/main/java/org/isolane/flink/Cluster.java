package org.isolane.flink;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.api.ValidationException;

/**
 * A Kafka cluster of the table.
 *
 * @param number its number in positions: the first one named is 0, the normal cluster, the second 1, the failover cluster
 * @param name what metrics and the column {@code cluster} call it
 * @param servers its bootstrap servers, as Kafka's clients take them
 */
record Cluster(int number, String name, String servers) implements Serializable {
    private static final String ADVICE = "write 'clusters' = 'normal=host:port,host:port;failover=host:port'";

    /**
     * The clusters that the option names, in its order.
     *
     * @throws ValidationException if it names none, or one in a way that cannot be
     */
    static List<Cluster> parse(String option) {
        List<Cluster> clusters = new ArrayList<>();
        for (String part : option.split(";", -1)) {
            String[] sides = part.trim().split("=", -1);
            if (sides.length != 2) {
                throw new ValidationException("'" + part.trim() + "' is no cluster: " + ADVICE);
            }
            String name = sides[0].trim();
            if (!name.matches("[a-z0-9-]{1,32}")) {
                throw new ValidationException("cluster name '" + name + "' must be 1 to 32 characters of a-z, 0-9 and '-'");
            }
            if (clusters.stream().anyMatch(cluster -> cluster.name.equals(name))) {
                throw new ValidationException("cluster '" + name + "' is named twice");
            }
            clusters.add(new Cluster(clusters.size(), name, servers("cluster '" + name + "'", sides[1], ADVICE)));
        }
        return clusters;
    }

    /** A list of {@code host:port}. */
    static String servers(String of, String list, String advice) {
        List<String> servers = new ArrayList<>();
        for (String server : list.split(",", -1)) {
            if (!server.trim().matches("[^\\s:]+:[0-9]{1,5}|\\[[0-9a-fA-F:]+]:[0-9]{1,5}")) {
                throw new ValidationException("'" + server.trim() + "' of " + of + " is no host:port: " + advice);
            }
            servers.add(server.trim());
        }
        return String.join(",", servers);
    }
}
