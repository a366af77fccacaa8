// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephGovernor} from "../../src/AlephGovernor.sol";
import {DomainRegistry} from "../../src/DomainRegistry.sol";
import {ImageMarketplace} from "../../src/ImageMarketplace.sol";
import {JobStore} from "../../src/JobStore.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {PaymentBase} from "../../src/PaymentBase.sol";
import {SLAStore} from "../../src/SLAStore.sol";
import {StakeVotes} from "../../src/StakeVotes.sol";
import {StakingManager} from "../../src/StakingManager.sol";
import {StorageBase} from "../../src/StorageBase.sol";
import {Wiring} from "../../src/Wiring.sol";

// The compiler tells the layout of ordinary variables only, and the contracts keep everything in namespaces. Declaring the
// namespaces' structs as ordinary variables makes their layouts known.

contract BaseLayout {
    Wiring.BaseStorage internal $;
}

contract NodeRegistryLayout {
    NodeRegistry.NodeRegistryStorage internal $;
}

contract StakingManagerLayout {
    StakingManager.StakingManagerStorage internal $;
}

contract StakeVotesLayout {
    StakeVotes.StakeVotesStorage internal $;
}

contract JobManagerLayout {
    JobStore.JobManagerStorage internal $;
}

contract PaymentManagerLayout {
    PaymentBase.PaymentManagerStorage internal $;
}

contract StorageRegistryLayout {
    StorageBase.StorageRegistryStorage internal $;
}

contract DomainRegistryLayout {
    DomainRegistry.DomainRegistryStorage internal $;
}

contract ImageMarketplaceLayout {
    ImageMarketplace.ImageMarketplaceStorage internal $;
}

contract SLAManagerLayout {
    SLAStore.SLAManagerStorage internal $;
}

contract AlephGovernorLayout {
    AlephGovernor.AlephGovernorStorage internal $;
}
