package org.isolane.flink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.apache.flink.table.api.ValidationException;
import org.junit.jupiter.api.Test;

class ClusterTest {
    @Test
    void clustersNumberInTheOrderInWhichTheyAreNamed() {
        assertEquals(
                List.of(new Cluster(0, "normal", "a.example:1,b:2"), new Cluster(1, "failover", "[::1]:9092")),
                Cluster.parse("normal=a.example:1, b:2; failover = [::1]:9092"));
    }

    @Test
    void whatIsNoClusterIsRefused() {
        for (String bad : new String[] {
            "", ";", "normal", "normal=", "=a:1", "normal=a", "normal=a:", "normal=a:1;", "normal=a:1;normal=b:1", "Normal=a:1",
            "normal=a:1,", "normal=a:1=b:1", "normal=a:x"
        }) {
            assertThrows(ValidationException.class, () -> Cluster.parse(bad), bad);
        }
    }
}
