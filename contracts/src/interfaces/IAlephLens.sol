// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IDomainRegistry} from "./IDomainRegistry.sol";
import {IImageMarketplace} from "./IImageMarketplace.sol";
import {IJobManager} from "./IJobManager.sol";
import {INodeRegistry} from "./INodeRegistry.sol";
import {IPaymentManager} from "./IPaymentManager.sol";

/// @title IAlephLens
/// @notice What a console or a command shows on one screen, read in one call. Nothing depends on this contract and it holds
/// nothing; another one can take its place any time.
interface IAlephLens {
    /// @notice A node with its stake, its work and the signs of its life.
    /// @param selfHeartbeats Bit i: the node gave a sign of life by itself i epochs ago.
    /// @param points The points against it in the present window; 0 when nobody keeps them.
    struct NodeInfo {
        uint32 nodeId;
        INodeRegistry.NodeView node;
        uint128 selfStake;
        uint128 delegated;
        uint128 unbonding;
        uint128 slashable;
        uint96 weight;
        uint40 frozenUntil;
        uint16 commissionBps;
        bool meetsRequirement;
        bool paidLink;
        uint32 jobs;
        uint32 commitments;
        uint32 selfHeartbeats;
        uint16 points;
    }

    /// @notice A payer's account in one token, and how long its money lasts.
    struct AccountInfo {
        uint8 token;
        IPaymentManager.TokenView info;
        IPaymentManager.AccountView account;
        uint256 balance;
        uint256 allowance;
        uint40 paidUntil;
        uint40 allowanceUntil;
        uint40 softStop;
        uint40 hardStop;
    }

    /// @notice A job with what its payer pays to the node and for the image.
    struct JobInfo {
        bytes32 spec;
        IJobManager.JobView job;
        IPaymentManager.PairView pair;
        IPaymentManager.PairView imagePair;
        bool imageIsPaying;
        uint40 paidUntil;
        uint40 arrearsSince;
    }

    /// @notice A name that was looked up.
    struct DomainInfo {
        bytes32 key;
        IDomainRegistry.DomainView domain;
    }

    /// @notice An image with its rating. `score` is in 1/1,000 of a star: the mean of the ratings and of 50 units of
    /// weight at 3.5 stars, so that a few ratings do not decide.
    struct ImageInfo {
        uint32 seq;
        IImageMarketplace.ImageView image;
        uint64 weight;
        uint64 weightedStars;
        uint32 ratings;
        uint16 score;
        bool usable;
        bool isPaying;
    }

    /// @notice A part of a delegation that is leaving.
    struct TrancheInfo {
        uint8 index;
        uint128 tokens;
        uint40 unlock;
    }

    /// @notice What somebody has delegated to a node.
    struct DelegationInfo {
        uint32 nodeId;
        uint128 tokens;
        uint128 shares;
        TrancheInfo[] leaving;
    }

    /// @notice The network at a glance. `paused` has the pause bits of each contract in the order nodes, staking, jobs,
    /// payments, storages, domains, sla, images.
    struct NetworkInfo {
        uint256 timestamp;
        uint32 lastNodeId;
        uint32 activeCoordinators;
        uint24 snapshotDay;
        uint8 lastToken;
        uint32 lastImage;
        uint32 prepay;
        uint32 softGrace;
        uint32 hardGrace;
        uint32 unbonding;
        uint128 minCoordinator;
        uint128 minCompute;
        uint128 minStorage;
        uint16 imageBond;
        uint8[8] paused;
    }

    /// @notice The network at a glance.
    function network() external view returns (NetworkInfo memory);

    /// @notice A node.
    function node(uint32 nodeId) external view returns (NodeInfo memory);

    /// @notice The nodes from a number on, at most 100 of them.
    /// @return list The nodes.
    /// @return next The number to go on with; 0 at the end.
    function nodes(uint32 from, uint32 count) external view returns (NodeInfo[] memory list, uint32 next);

    /// @notice The last 32 epochs: bit i is set when the coordinators' heartbeat of i epochs ago is there.
    function heartbeats() external view returns (uint32 epoch, uint32 posted);

    /// @notice A payer's accounts in every listed token.
    function accounts(address payer) external view returns (AccountInfo[] memory);

    /// @notice What a payee can withdraw in every listed token, from token 1 on.
    function credits(uint64 payee) external view returns (uint128[] memory);

    /// @notice A job.
    function job(bytes32 spec) external view returns (JobInfo memory);

    /// @notice At most 100 jobs.
    function jobs(bytes32[] calldata specs) external view returns (JobInfo[] memory);

    /// @notice A name, in the form that has a key.
    function domain(string calldata fqdn) external view returns (DomainInfo memory);

    /// @notice At most 100 names, by their keys.
    function domains(bytes32[] calldata keys) external view returns (DomainInfo[] memory);

    /// @notice An image.
    function image(uint32 seq) external view returns (ImageInfo memory);

    /// @notice The images from a number on, at most 100 of them.
    /// @return list The images.
    /// @return next The number to go on with; 0 at the end.
    function images(uint32 from, uint32 count) external view returns (ImageInfo[] memory list, uint32 next);

    /// @notice What somebody has delegated to at most 100 nodes.
    function delegations(address who, uint32[] calldata nodeIds) external view returns (DelegationInfo[] memory);
}
